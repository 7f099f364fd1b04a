"""The OpenAPI document: made from the URL map, the views' docstrings, the schemas and the tables of `operations`."""

import re
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Flask
from marshmallow import fields

from todo_api.openapi.operations import (
    ALL_ERRORS,
    BODY_EXAMPLES,
    COMMON_HEADERS,
    COUNT,
    ERROR_HEADERS,
    HEADER_PARAMETERS,
    HEADERS,
    INFO,
    OPERATIONS,
    PATH_PARAMETERS,
    REFUSALS,
    SECURITY_SCHEMES,
    SERVER_FIELDS,
    STATUS,
    TAGS,
    TITLE,
    VERSION,
    WRONGS,
    Answer,
    Operation,
    reference,
)
from todo_api.tasks import schemas
from todo_api.tasks.pagination import EVERYTHING
from todo_api.telemetry.requests import template

# What str.strip() removes, in words that all dialects of regular expressions share.
WHITE_SPACE = r"\t-\r\x1c- \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
BODIES = {"NewTask": schemas.NEW_TASK, "TaskChanges": schemas.CHANGES, "Mark": schemas.MARK}

Json = dict[str, Any]


def describe(app: Flask) -> Json:
    plugin: Any = MarshmallowPlugin()
    spec = APISpec(TITLE, VERSION, "3.1.0", plugins=[plugin], info=INFO, servers=[{"url": "/"}])
    plugin.converter.add_attribute_function(property_of)
    for name, text in TAGS.items():
        spec.tag({"name": name, "description": text})
    add_components(spec)
    views = routes(app)
    for route, operation in OPERATIONS.items():
        if route in views:
            method, path = route.split()
            parameters: list[Any] = ["X-Request-ID", *(["id"] if "{id}" in path else [])]
            described = describe_operation(operation, path, app.view_functions[views[route]].__doc__ or "")
            spec.path(path, operations={method.lower(): described}, parameters=parameters)
    return spec.to_dict()


def routes(app: Flask) -> dict[str, str]:
    """Return the endpoint of each method and path, without the methods that come by themselves."""
    return {
        f"{method} {template(rule.rule)}": rule.endpoint
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }


def property_of(_: Any, field: fields.Field[Any], **__: Any) -> Json:
    """Return what the field of a schema admits."""
    if isinstance(field, schemas.Text):
        found = text_property(field)
    elif isinstance(field, schemas.Choice):
        truth = field.choices == schemas.TRUE_FALSE
        found = {"type": "boolean"} if truth else {"type": "string", "enum": list(field.choices)}
    elif isinstance(field, schemas.StrictBoolean):
        found = {"type": "boolean"}
    elif isinstance(field, schemas.Limit):
        found = {"type": "integer", "minimum": 1, "maximum": schemas.LIMIT_MAX}
    else:
        found = {"type": "string"}
    if isinstance(field.parent, schemas.ListSchema) and getattr(EVERYTHING, str(field.name)) is not None:
        found["default"] = getattr(EVERYTHING, str(field.name))
    return found


def text_property(field: schemas.Text) -> Json:
    """Return what may be sent; where white space around it is trimmed, a pattern alone can tell the length."""
    kind = ["string", "null"] if field.allow_none else "string"
    if not field.trim:
        return {"type": kind, "minLength": field.least, "maxLength": field.most, "pattern": r"^[^\x00]*$"}
    first = rf"[^{WHITE_SPACE}\x00]" * field.least  # none or one: it is what keeps the rest from being trimmed away
    rest = rf"[^\x00]{{0,{field.most - field.least}}}"
    return {"type": kind, "pattern": f"^[{WHITE_SPACE}]*{first}{rest}[{WHITE_SPACE}]*$"}


def add_components(spec: APISpec) -> None:
    add_schemas(spec)
    for place, parameters in (("header", HEADER_PARAMETERS), ("path", PATH_PARAMETERS)):
        for name, (description, schema, example) in parameters.items():
            described = {"name": name, "description": description, "schema": schema, "example": example}
            spec.components.parameter(name, place, described)
    for name, header in HEADERS.items():
        shown = {"description": header.description, "required": header.always}
        spec.components.header(name, {**shown, "schema": header.schema, "example": header.example})
    for name, codes in REFUSALS.items():
        spec.components.response(name, describe_refusal(name, codes))
    for name, scheme in SECURITY_SCHEMES.items():
        spec.components.security_scheme(name, scheme)


def add_schemas(spec: APISpec) -> None:
    for name, schema in BODIES.items():
        spec.components.schema(name, schema=schema)
    made = spec.components.schemas
    for name in ("NewTask", "TaskChanges"):
        ignored = {"readOnly": True, "description": "Set by the service; may be sent back and is ignored."}
        made[name]["properties"] |= dict.fromkeys(sorted(schemas.READ_ONLY), ignored)
    for changed in made["TaskChanges"]["properties"].values():
        changed.pop("default", None)  # what is not sent stays as it is
    spec.components.schema("Task", task_schema(made["NewTask"]["properties"], SERVER_FIELDS))
    spec.components.schema("Count", COUNT)
    spec.components.schema("Status", STATUS)
    members: Json = {"detail": {"type": "string", "description": "A sentence for a person."}}
    members |= {"error_code": {"type": "string", "enum": list(ALL_ERRORS)}, "status_code": {"type": "integer"}}
    spec.components.schema("Error", {"type": "object", "required": list(members), "properties": members})
    messages = {"type": "array", "minItems": 1, "items": {"type": "string"}}
    errors = {"type": "object", "minProperties": 1, "additionalProperties": messages}
    errors["description"] = "What is wrong with each field, parameter or header."
    spec.components.schema("ValidationError", error_schema(["VALIDATION_ERROR"], 400, errors=errors))


def task_schema(written: Json, server: Json) -> Json:
    """Return what comes back: every field, and texts as they are after trimming."""
    properties = {"id": server["id"], "user_id": server["user_id"]}
    for name, field in schemas.NEW_TASK.fields.items():
        properties[name] = {key: written[name][key] for key in ("type", "description")}
        if isinstance(field, schemas.Text):
            properties[name] |= {"minLength": field.least, "maxLength": field.most}
    properties |= {"created_at": server["created_at"], "updated_at": server["updated_at"]}
    for name in schemas.READ_ONLY:
        properties[name] = {**properties[name], "readOnly": True}
    return {"type": "object", "required": list(properties), "properties": properties, "additionalProperties": False}


def error_schema(codes: list[str], status: int, **more: Json) -> Json:
    members = {"error_code": {"type": "string", "enum": codes}, "status_code": {"type": "integer", "const": status}}
    narrowed = {"type": "object", "required": [*members, *more], "properties": members | more}
    return {"allOf": [reference("Error"), narrowed], "unevaluatedProperties": False}


def describe_refusal(name: str, codes: tuple[str, ...]) -> Json:
    status = ALL_ERRORS[codes[0]][0]
    plain = [code for code in codes if code != "VALIDATION_ERROR"]
    schema = error_schema(plain, status)
    if len(plain) < len(codes):
        schema = {"oneOf": [schema, reference("ValidationError")]}
    examples = {}
    for code in codes:
        more = {"errors": WRONGS[name]} if code == "VALIDATION_ERROR" else {}
        value = {"detail": ALL_ERRORS[code][1], "error_code": code, "status_code": status, **more}
        examples[code] = {"value": value}
    headers = [*([ERROR_HEADERS[status]] if status in ERROR_HEADERS else []), *COMMON_HEADERS]
    return {
        "description": "\n".join(f"- `{code}`: {ALL_ERRORS[code][1]}" for code in codes),
        "headers": {header: header for header in headers},
        "content": {"application/json": {"schema": schema, "examples": examples}},
    }


def describe_operation(operation: Operation, path: str, docstring: str) -> Json:
    responses: Json = {str(status): describe_answer(answer) for status, answer in operation.answers.items()}
    responses |= {str(ALL_ERRORS[REFUSALS[name][0]][0]): name for name in operation.refusals}
    of_tasks = path.startswith("/api/")
    described: Json = {
        "operationId": operation.id,
        "summary": re.split(r"[.:]\s|\.$", docstring)[0],
        "tags": ["tasks" if of_tasks else "service"],
        "security": [{"token": []}] if of_tasks else operation.security,
        "parameters": list(operation.headers),
        "responses": dict(sorted(responses.items())),
    }
    if operation.description:
        described["description"] = operation.description
    if operation.parameters:
        described["parameters"].insert(0, {"in": "query", "schema": operation.parameters})
    if operation.body:
        content = {"schema": reference(operation.body), "example": BODY_EXAMPLES[operation.body]}
        described["requestBody"] = {"required": True, "content": {"application/json": content}}
    return described


def describe_answer(answer: Answer) -> Json:
    described: Json = {"description": answer.description}
    described["headers"] = {header: header for header in (*answer.headers, *COMMON_HEADERS)}
    if answer.schema:
        content = {"schema": answer.schema, **({"example": answer.example} if answer.example is not None else {})}
        described["content"] = {answer.media_type: content}
    return described
