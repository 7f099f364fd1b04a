"""Builds the OpenAPI document from operations.toml, the URL map, the views' docstrings, the schemas and the errors."""

import tomllib
from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Flask
from marshmallow import fields

from todo_api.errors import error_types
from todo_api.tasks import CHANGES, LIST, MARK, NEW_TASK, WHICH, Text
from todo_api.telemetry import route_template

Json = dict[str, Any]


class Error(NamedTuple):
    """An error of the service or of nginx."""

    status_code: int
    error_code: str
    detail: str
    headers: Sequence[str] = ()


TABLES = tomllib.loads(Path(__file__).with_name("operations.toml").read_text(encoding="utf-8"))
BODIES = {"NewTask": NEW_TASK, "TaskChanges": CHANGES, "Mark": MARK}
QUERIES = {"LIST": LIST, "WHICH": WHICH}
TASK = {name: TABLES["fields"]["TaskSchema"][name]["examples"][0] for name in NEW_TASK.fields}
EXAMPLES = {"task": TASK, "completed_task": TASK | {"is_completed": True}, "tasks": [TASK]}
ERRORS = {code: Error(error_code=code, **table) for code, table in TABLES["nginx_errors"].items()}
ERRORS |= {
    kind.error_code: Error(kind.status_code, kind.error_code, kind.detail, [*kind.headers]) for kind in error_types()
}
# What str.strip() removes, in a notation that all dialects of regular expressions share.
WHITESPACE = r"\t-\r\x1c- \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"


def describe(app: Flask) -> Json:
    """Return the OpenAPI document of an application."""
    plugin: Any = MarshmallowPlugin()
    spec = APISpec(plugins=[plugin], **general_part())
    plugin.converter.add_attribute_function(field_text)
    spec.components.schema("Task", as_response(plugin.converter.schema2jsonschema(NEW_TASK)))
    plugin.converter.add_attribute_function(as_request)  # for all schemas from here on
    for name, schema in BODIES.items():
        spec.components.schema(name, schema=schema)
    add_operations(spec, app)
    return spec.to_dict()


def general_part() -> Json:
    """Return the table `document` with all error codes: a copy, because apispec changes it."""
    document: Json = deepcopy(TABLES["document"])
    codes = {code for table in TABLES["operations"].values() for code in error_codes(table["errors"])}
    document["components"]["schemas"]["Error"]["properties"]["error_code"]["enum"] = sorted(codes)
    return document


def field_text(_: Any, field: fields.Field[Any], **_ret: Any) -> Json:
    """Return what the table `fields` says about a field. Called by apispec."""
    text: Json = TABLES["fields"][type(field.parent).__name__][field.name]
    return text


def as_response(described: Json) -> Json:
    """Return the schema of an object in a response: it has all fields."""
    for described_field in described["properties"].values():
        described_field.pop("default", None)
    return described | {"required": [*described["properties"]]}


def as_request(_: Any, field: fields.Field[Any], ret: Json) -> Json:
    """Change the description of a field, `ret`, to what a request may contain. Called by apispec."""
    if field.dump_only:
        ret.clear()
        return {"readOnly": True, "description": "Read-only: ignored in requests."}
    if getattr(field.parent, "partial", False):
        ret.pop("default", None)  # a field that is not sent keeps its value
    if not isinstance(field, Text):
        return {}
    if not field.trim:
        return {"pattern": r"^[^\x00]*$"}
    shortest, longest = ret.pop("minLength", 0), ret.pop("maxLength")  # they apply after trimming
    first = rf"[^{WHITESPACE}\x00]" * shortest
    return {"pattern": rf"^[{WHITESPACE}]*{first}[^\x00]{{0,{longest - shortest}}}[{WHITESPACE}]*$"}


def add_operations(spec: APISpec, app: Flask) -> None:
    views = {
        f"{method} {route_template(rule.rule)}": app.view_functions[rule.endpoint]
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
    }
    for route, table in TABLES["operations"].items():
        method, path = route.split()
        of_tasks = path.startswith("/api/")
        general = {
            "summary": (views[route].__doc__ or "").partition(".")[0],
            "tags": ["tasks" if of_tasks else "service"],
            "security": [{"token": []}] if of_tasks else [],
        }
        parameters: list[Any] = ["X-Request-ID", *(["id"] if "{id}" in path else [])]
        spec.path(path, operations={method.lower(): describe_operation(spec, **general | table)}, parameters=parameters)


def describe_operation(
    spec: APISpec,
    *,
    responses: dict[str, str],
    errors: Sequence[str],
    headers: Sequence[str] = (),
    query: str | None = None,
    body: str | None = None,
    example: Any = None,
    **others: Any,
) -> Json:
    """Return the Operation Object of a table in `operations`; `others` are part of it."""
    parameters = [{"in": "query", "schema": QUERIES[query]}] if query else []
    described: Json = others | {"parameters": [*parameters, *headers]}
    if body:
        described["requestBody"] = {"required": True, "content": content(body, example)}
    results = {status: describe_response(**TABLES["responses"][name]) for status, name in responses.items()}
    return described | {"responses": results | add_error_responses(spec, errors)}


def describe_response(description: str, headers: Iterable[str] = (), **body: Any) -> Json:
    """Return the Response Object of a table in `responses`; `body` are the arguments of `content`."""
    described: Json = {"description": description}
    described["headers"] = {name: name for name in (*headers, *TABLES["common"]["headers"])}
    return described | ({"content": content(**body)} if body else {})


def content(schema: str | Json, example: Any = None, media_type: str = "application/json") -> Json:
    """Return the `content` of a request body or a response; `example` may be a name of EXAMPLES."""
    shown = EXAMPLES[example] if isinstance(example, str) else example
    return {media_type: {"schema": schema} | ({"example": shown} if shown else {})}


def add_error_responses(spec: APISpec, names: Iterable[str]) -> dict[str, str]:
    """Add one response for each status to the components; return their names, which are made of the codes."""
    responses = {}
    errors = sorted(ERRORS[code] for code in set(error_codes(names)))
    for status, group in groupby(errors, key=lambda error: error.status_code):
        alike = tuple(group)
        name = responses[str(status)] = ".".join(error.error_code for error in alike)
        if name not in spec.components.responses:
            spec.components.response(name, describe_errors(status, alike))
    return responses


def error_codes(names: Iterable[str]) -> Iterator[str]:
    """Yield the error codes among `names`, and those of the groups among them."""
    groups = TABLES["error_groups"]
    for name in names:
        yield from error_codes(groups[name]) if name in groups else (name,)


def describe_errors(status: int, errors: Sequence[Error]) -> Json:
    """Describe the response that carries one of several errors of the same status."""
    codes = [error.error_code for error in errors if error.error_code != "VALIDATION_ERROR"]
    members = {"error_code": {"type": "string", "enum": codes}, "status_code": {"type": "integer", "const": status}}
    own = {"type": "object", "required": [*members], "properties": members}
    schema: Json = {"allOf": [{"$ref": "#/components/schemas/Error"}, own], "unevaluatedProperties": False}
    if len(codes) < len(errors):
        schema = {"oneOf": [schema, {"$ref": "#/components/schemas/ValidationError"}]}
    details = "\n".join(f"- `{error.error_code}`: {error.detail}" for error in errors)
    headers = {name for error in errors for name in error.headers} | ({"Allow"} if status == 405 else set())
    return describe_response(details, sorted(headers), schema=schema)
