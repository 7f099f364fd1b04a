"""Whether an answer is one that the OpenAPI document describes: asked of every answer that a test client gets."""

import json
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from jsonschema_rs import Draft202012Validator
from werkzeug.exceptions import MethodNotAllowed, NotFound
from werkzeug.test import TestResponse

from todo_api.telemetry.requests import template

Json = dict[str, Any]

NOT_TO_DESCRIBE = {"Content-Type", "Content-Length"}  # OpenAPI has a place of its own for the type


class Undescribed(AssertionError):
    """The service and its document differ."""


class Answers:
    """The answers that a document describes; a check takes some 100 us, for a validator (7 ms) is made once."""

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

    def check(self, app: Flask, answer: TestResponse) -> None:
        """Raise Undescribed unless the document has the status, the headers and the body of the answer."""
        described = self._described(app, answer)
        if described is None:
            return
        self._check_headers(answer, set(described["headers"]))
        if answer.request.method != "HEAD":
            self._check_body(answer, described.get("content"))

    def _described(self, app: Flask, answer: TestResponse) -> Json | None:
        """Return what the document says of an answer of this status, None for what is none of its business."""
        request, status = answer.request, str(answer.status_code)
        method = "GET" if request.method == "HEAD" else request.method
        try:
            rule, _ = app.url_map.bind("").match(request.path, method, return_rule=True)
        except NotFound:
            return self._agreed(answer, {"404": {"$ref": "#/components/responses/NotFound"}}, status)
        except MethodNotAllowed:
            return self._agreed(answer, {"405": {"$ref": "#/components/responses/MethodNotAllowed"}}, status)
        responses = self.by_route.get(f"{method} {template(rule.rule)}")
        return None if responses is None else self._agreed(answer, responses, status)

    def _agreed(self, answer: TestResponse, responses: Json, status: str) -> Json:
        if status not in responses:
            raise Undescribed(f"{answer.request.method} {answer.request.path} answers {status}: {answer.text[:300]}")
        described: Json = responses[status]
        if "$ref" in described:
            described = self.components["responses"][described["$ref"].rpartition("/")[2]]
        return described

    def _check_headers(self, answer: TestResponse, expected: set[str]) -> None:
        present = set(answer.headers.keys()) - NOT_TO_DESCRIBE
        missing = {name for name in expected if self.headers[name]["required"]} - present
        if missing or present - expected:
            raise Undescribed(f"{answer.status}: headers missing: {missing}, not described: {present - expected}")
        for name in present:
            values = answer.headers.getlist(name)
            whole = self.headers[name]["schema"]["type"] == "integer"
            if len(values) > 1:
                raise Undescribed(f"{answer.status}: {name} stands twice: {values}")
            self._validate(self.headers[name]["schema"], int(values[0]) if whole else values[0], name)

    def _check_body(self, answer: TestResponse, content: Json | None) -> None:
        if content is None:
            if answer.data or "Content-Type" in answer.headers:
                raise Undescribed(f"{answer.status} has a body: {answer.content_type} {answer.text[:300]}")
            return
        if answer.mimetype not in content:
            raise Undescribed(f"{answer.status} is {answer.content_type}, not one of {[*content]}")
        if answer.mimetype == "application/json":
            self._validate(content[answer.mimetype]["schema"], storable(json.loads(answer.data)), answer.status)

    def _validate(self, schema: Json, value: Any, what: str) -> None:
        key = id(schema)  # the document outlives its validators
        if key not in self._validators:
            self._validators[key] = Draft202012Validator(
                {**schema, "components": self.components}, validate_formats=True
            )
        for error in self._validators[key].iter_errors(value):
            raise Undescribed(f"{what}: {error.message} at {error.instance_path}")


def storable(value: Any) -> Any:
    """Return the value without lone surrogates, which an error may echo and the validator cannot take."""
    text = json.dumps(value, ensure_ascii=False)
    return value if text.isascii() else json.loads(text.encode("utf-8", "replace"))


def client_of(answers: Answers) -> type[FlaskClient]:
    """Return a test client that holds every answer to the document."""

    class CheckedClient(FlaskClient):
        def open(self, *args: Any, **kwargs: Any) -> TestResponse:
            answer = super().open(*args, **kwargs)
            answers.check(self.application, answer)
            return answer

    return CheckedClient
