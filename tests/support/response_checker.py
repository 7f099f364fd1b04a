"""Checks every response that a test client gets against the OpenAPI document."""

import json
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from jsonschema_rs import Draft202012Validator
from werkzeug.exceptions import MethodNotAllowed, NotFound
from werkzeug.test import TestResponse

from todo_api.openapi import get_document

Json = dict[str, Any]

NOT_TO_DESCRIBE = {"Content-Type", "Content-Length"}  # OpenAPI describes the type elsewhere


class Undocumented(AssertionError):
    """The service and its document differ."""


class ResponseChecker:
    """Checks responses against a document. A check takes 100 µs, as each validator, which takes 7 ms, is made once."""

    def __init__(self, document: Json) -> None:
        self.components = document["components"]
        self.headers = self.components["headers"]
        self.by_route = {
            f"{method.upper()} {path}": operation["responses"]
            for path, item in document["paths"].items()
            for method, operation in item.items()
            if method != "parameters"
        }
        self._validators: dict[int, Draft202012Validator] = {}

    def check(self, app: Flask, response: TestResponse) -> None:
        """Raise Undocumented unless the document has the status, the headers and the body of the response."""
        described = self._described(app, response)
        if described is None:
            return
        headers = {name: self.headers[name] if "$ref" in it else it for name, it in described["headers"].items()}
        self._check_headers(response, headers)
        if response.request.method != "HEAD":
            self._check_body(response, described.get("content"))

    def _described(self, app: Flask, response: TestResponse) -> Json | None:
        """Return the description of the response, None if its route is not described."""
        request, status = response.request, str(response.status_code)
        responses: Json | None
        try:
            method = "GET" if request.method == "HEAD" else request.method
            rule, _ = app.url_map.bind("").match(request.path, method, return_rule=True)
            responses = self.by_route.get(f"{method} {rule.rule.replace('<task:task_id>', '{id}')}")
        except NotFound:
            responses = None if is_preflight(response) else {"404": self.components["responses"]["NotFound"]}
        except MethodNotAllowed:
            responses = {"405": self.components["responses"]["MethodNotAllowed"]}
        if responses is None:
            return None
        if status not in responses:
            raise Undocumented(f"{request.method} {request.path} answers {status}: {response.text[:300]}")
        described: Json = responses[status]
        name = described.get("$ref", "").rpartition("/")[2]
        return self.components["responses"][name] if name else described

    def _check_headers(self, response: TestResponse, expected: Json) -> None:
        present = set(response.headers.keys()) - NOT_TO_DESCRIBE
        missing = {name for name, header in expected.items() if header["required"]} - present
        if missing or present - expected.keys():
            unknown = present - expected.keys()
            raise Undocumented(f"{response.status}: headers missing: {missing}, not described: {unknown}")
        for name in present:
            values = response.headers.getlist(name)
            schema = expected[name]["schema"]
            is_number = schema["type"] == "integer"
            if len(values) > 1:
                raise Undocumented(f"{response.status}: repeated {name}: {values}")
            self._validate(schema, int(values[0]) if is_number else values[0], name)

    def _check_body(self, response: TestResponse, content: Json | None) -> None:
        if content is None:
            if response.data or "Content-Type" in response.headers:
                raise Undocumented(f"{response.status} has a body: {response.content_type} {response.text[:300]}")
            return
        if response.mimetype not in content:
            raise Undocumented(f"{response.status} is {response.content_type}, not one of {[*content]}")
        if response.mimetype == "application/json":
            body = without_surrogates(json.loads(response.data))
            self._validate(content[response.mimetype]["schema"], body, response.status)

    def _validate(self, schema: Json, value: Any, what: str) -> None:
        key = id(schema)  # the document outlives its validators
        if key not in self._validators:
            whole = {**schema, "components": self.components}
            self._validators[key] = Draft202012Validator(whole, validate_formats=True)
        for error in self._validators[key].iter_errors(value):
            raise Undocumented(f"{what}: {error.message} at {error.instance_path}")


def is_preflight(response: TestResponse) -> bool:
    return response.request.method == "OPTIONS" and "Access-Control-Allow-Methods" in response.headers


def without_surrogates(value: Any) -> Any:
    """Replace lone surrogates, which an error may echo and the validator cannot read."""
    text = json.dumps(value, ensure_ascii=False)
    return value if text.isascii() else json.loads(text.encode("utf-8", "replace"))


def checked_client(app: Flask) -> type[FlaskClient]:
    """Return a class of test clients that check every response against the document of `app`."""
    with app.app_context():
        checker = ResponseChecker(json.loads(get_document()))

    class CheckedClient(FlaskClient):
        def open(self, *args: Any, **kwargs: Any) -> TestResponse:
            response = super().open(*args, buffered=True, **kwargs)  # buffered: files are closed
            checker.check(self.application, response)
            return response

    return CheckedClient
