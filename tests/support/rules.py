"""The JSON Schemas that follow from marshmallow schemas, without texts: the OpenAPI document must say the same."""

from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import Schema, fields

from todo_api.tasks.schemas import Day, Text

Json = dict[str, Any]

TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$"
DAY = {"format": "date", "pattern": r"^\d{4}-\d\d-\d\d$"}
# What str.strip() removes, in a notation that all dialects of regular expressions share.
WHITESPACE = r"\t-\r\x1c- \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"


def of_response(schema: Schema) -> Json:
    """Return the schema of an object in a response: it has all fields, and no defaults."""
    described: Json = converter(as_response).schema2jsonschema(schema)
    for field in described["properties"].values():
        field.pop("default", None)
    return described | {"required": [*described["properties"]]}


def of_body(schema: Schema) -> Json:
    """Return the schema of a request body."""
    described: Json = converter(as_request).schema2jsonschema(schema)
    return described


def of_query(schema: Schema) -> list[Json]:
    """Return the query parameters of a schema."""
    parameters: list[Json] = converter(as_request).schema2parameters(schema, location="query")
    return parameters


def converter(function: Any) -> Any:
    """Return apispec's converter, which calls `function` for what it adds to a field or changes in it."""
    plugin: Any = MarshmallowPlugin()
    APISpec(title="", version="", openapi_version="3.1.0", plugins=[plugin])
    plugin.converter.add_attribute_function(function)
    return plugin.converter


def as_response(_: Any, field: fields.Field[Any], **_ret: Any) -> Json:
    """Describe days and times."""
    if isinstance(field, Day):
        return DAY
    return {"pattern": TIME} if isinstance(field, fields.DateTime) else {}


def as_request(_: Any, field: fields.Field[Any], ret: Json) -> Json:
    """Change the description of a field, `ret`, to what a request may contain."""
    if field.dump_only:
        ret.clear()
        return {"readOnly": True}
    if callable(field.load_default):
        ret["default"] = field.load_default()
    if getattr(field.parent, "partial", False):
        ret.pop("default", None)  # a field that is not sent keeps its value
    if isinstance(field, Day):
        return DAY
    if not isinstance(field, Text):
        return {}
    if not field.trim:
        return {"pattern": r"^[^\x00]*$"}
    shortest, longest = ret.pop("minLength", 0), ret.pop("maxLength")  # they apply after trimming
    first = rf"[^{WHITESPACE}\x00]" * shortest
    return {"pattern": rf"^[{WHITESPACE}]*{first}[^\x00]{{0,{longest - shortest}}}[{WHITESPACE}]*$"}


def without_texts(described: Json) -> Json:
    """Return a field or parameter without what is for people."""
    return {name: value for name, value in described.items() if name not in ("description", "examples")}
