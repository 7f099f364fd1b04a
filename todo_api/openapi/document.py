"""Builds the OpenAPI document from the URL map, the views' docstrings, the schemas and the tables of `operations`."""

from itertools import groupby
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Flask
from marshmallow import fields

from todo_api.openapi import operations as api
from todo_api.openapi.operations import Errors, Json, Operation, reference
from todo_api.tasks import NEW_TASK, Text
from todo_api.telemetry import route_template

# What str.strip() removes, in a notation that all dialects of regular expressions share.
WHITESPACE = r"\t-\r\x1c- \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
STRING: Json = {"type": "string"}


def describe(app: Flask) -> Json:
    """Return the OpenAPI document of an application."""
    plugin: Any = MarshmallowPlugin()
    spec = APISpec(api.TITLE, api.VERSION, "3.1.0", plugins=[plugin], info=api.INFO, servers=[{"url": "/"}])
    spec.components.schema("Task", as_response(plugin.converter.schema2jsonschema(NEW_TASK)))
    plugin.converter.add_attribute_function(as_request)  # for all schemas from here on
    add_components(spec)
    views = routes(app)
    for route, operation in api.OPERATIONS.items():
        method, path = route.split()
        described = describe_operation(operation, path, spec)
        described["summary"] = (app.view_functions[views[route]].__doc__ or "").partition(".")[0]
        shared: list[Any] = ["X-Request-ID", *(["id"] if "{id}" in path else [])]
        spec.path(path, operations={method.lower(): described}, parameters=shared)
    return spec.to_dict()


def routes(app: Flask) -> dict[str, str]:
    """Return the endpoint of each method and path, without HEAD and OPTIONS, which Flask adds."""
    return {
        f"{method} {route_template(rule.rule)}": rule.endpoint
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }


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


def add_components(spec: APISpec) -> None:
    for name, text in api.TAGS.items():
        spec.tag({"name": name, "description": text})
    for name, (schema, _) in api.BODIES.items():
        spec.components.schema(name, schema=schema)
    for name, described in {**api.RESULTS, **error_schemas()}.items():
        spec.components.schema(name, described)
    for name, parameter in api.PARAMETERS.items():
        spec.components.parameter(name, "path" if name == "id" else "header", parameter)
    for name, header in api.HEADERS.items():
        spec.components.header(name, header)
    for name, scheme in api.SECURITY_SCHEMES.items():
        spec.components.security_scheme(name, scheme)


def error_schemas() -> dict[str, Json]:
    codes = sorted({error.error_code for operation in api.OPERATIONS.values() for error in operation.errors})
    members: Json = {
        "detail": STRING | {"description": "A message for people."},
        "error_code": STRING | {"enum": codes, "description": "A code for programs."},
        "status_code": {"type": "integer", "description": "The HTTP status code."},
    }
    messages: Json = {"type": "object", "additionalProperties": {"type": "array", "minItems": 1, "items": STRING}}
    messages |= {"minProperties": 1, "description": "Messages for each invalid field, parameter or header."}
    return {
        "Error": {"type": "object", "required": [*members], "properties": members},
        "ValidationError": narrowed_error(["VALIDATION_ERROR"], 400, errors=messages),
    }


def narrowed_error(codes: list[str], status: int, **members: Json) -> Json:
    members |= {"error_code": STRING | {"enum": codes}, "status_code": {"type": "integer", "const": status}}
    own = {"type": "object", "required": [*members], "properties": members}
    return {"allOf": [reference("Error"), own], "unevaluatedProperties": False}


def describe_operation(operation: Operation, path: str, spec: APISpec) -> Json:
    of_tasks = path.startswith("/api/")
    responses = operation.responses | add_error_responses(operation.errors, spec)
    described: Json = {
        "operationId": operation.id,
        "tags": ["tasks" if of_tasks else "service"],
        "security": [{"token": []}] if of_tasks else [*operation.security],
        "parameters": [*([{"in": "query", "schema": operation.query}] if operation.query else []), *operation.headers],
        "responses": dict(sorted(responses.items())),
    }
    if operation.description:
        described["description"] = operation.description
    if operation.body:
        content = {"schema": reference(operation.body), "example": api.BODIES[operation.body][1]}
        described["requestBody"] = {"required": True, "content": {"application/json": content}}
    return described


def add_error_responses(errors: Errors, spec: APISpec) -> dict[int, Any]:
    """Add one response for each status to the components; return their names, which are made of the codes."""
    names: dict[int, Any] = {}
    ordered = sorted(errors, key=lambda error: (error.status_code, error.error_code))
    for status, group in groupby(ordered, key=lambda error: error.status_code):
        alike = tuple(group)
        names[status] = ".".join(error.error_code for error in alike)
        if names[status] not in spec.components.responses:
            spec.components.response(names[status], describe_errors(alike, status))
    return names


def describe_errors(errors: Errors, status: int) -> Json:
    """Describe the response that carries one of several errors of the same status."""
    codes = [error.error_code for error in errors]
    schema = narrowed_error([code for code in codes if code != "VALIDATION_ERROR"], status)
    if "VALIDATION_ERROR" in codes:
        schema = {"oneOf": [schema, reference("ValidationError")]}
    headers = {name for error in errors for name in error.headers} | ({"Allow"} if status == 405 else set())
    details = "\n".join(f"- `{error.error_code}`: {error.detail}" for error in errors)
    return api.response(details, schema, headers=sorted(headers))
