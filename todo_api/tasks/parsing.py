"""Strict parsing of request bodies (JSON) and query strings."""

import json
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from flask import request
from marshmallow import Schema, ValidationError, fields
from werkzeug.exceptions import HTTPException

from todo_api.config import MAX_BODY_BYTES
from todo_api.errors import BadRequest, PayloadTooLarge, UnsupportedMediaType
from todo_api.tasks.errors import MalformedJSON


def body(schema: Schema) -> dict[str, Any]:
    """Return the request's validated body. The order of checks: size, media type, JSON, fields."""
    value = parse_json(read_body())
    if not isinstance(value, dict):
        raise MalformedJSON("The body must be a JSON object.")
    found: dict[str, Any] = schema.load(value)
    return found


def parameters(schema: Schema) -> dict[str, Any]:
    """Return the request's validated query parameters. Repeated ones raise ValidationError, unless they make a list."""
    # Bytes that are not UTF-8 become lone surrogates, which every field refuses.
    text = request.query_string.decode("utf-8", "surrogateescape")
    values: dict[str, Any] = {}
    for name, value in parse_qsl(text, keep_blank_values=True, errors="surrogateescape"):
        values.setdefault(name, []).append(value)
    single = [name for name in values if not isinstance(schema.fields.get(name), fields.List)]
    if repeated := [name for name in single if len(values[name]) > 1]:
        raise ValidationError({name: ["Must not be repeated."] for name in repeated})
    found: dict[str, Any] = schema.load(values | {name: values[name][0] for name in single})
    return found


def read_body() -> bytes:
    """Return the request's body, which must be JSON. Raises BadRequest, PayloadTooLarge, UnsupportedMediaType."""
    try:
        raw = request.get_data(cache=False)
    except HTTPException:
        raise
    except Exception as error:  # each server raises its own for a broken chunk or a client that hangs up
        raise BadRequest("The body cannot be read.") from error
    if len(raw) > MAX_BODY_BYTES:
        raise PayloadTooLarge
    if request.content_length is not None and len(raw) < request.content_length:
        raise BadRequest("The body is shorter than its Content-Length.")
    if request.mimetype != "application/json":
        raise UnsupportedMediaType
    return raw


def parse_json(body: bytes) -> Any:
    """Return the JSON value in `body`. Duplicate names, NaN and Infinity raise MalformedJSON."""
    try:
        return _DECODER.decode(body.decode("utf-8"))
    except UnicodeDecodeError:
        raise MalformedJSON("The body is not UTF-8.") from None
    except RecursionError:
        raise MalformedJSON("The body is nested too deeply.") from None
    except json.JSONDecodeError as error:
        raise MalformedJSON(f"The body is not JSON: {error.msg} at character {error.pos}.") from None
    except ValueError:  # Python's limit on the digits of an integer
        raise MalformedJSON("The body has a number with too many digits.") from None


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MalformedJSON("The body has a duplicate field name.")
    return found


def _no_constant(name: str) -> NoReturn:
    raise MalformedJSON(f"The body is not JSON: {name} is not a JSON value.")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique_names, parse_constant=_no_constant)
