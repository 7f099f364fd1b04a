"""The marshmallow schemas of bodies and query parameters. A test compares openapi/openapi.yaml with them."""

import re
from difflib import get_close_matches
from typing import Any

from marshmallow import Schema, ValidationError, fields, post_load, pre_load
from marshmallow.validate import Length, OneOf, Range

from todo_api.errors import LONGEST_NAME
from todo_api.models import LONGEST_TITLE, PRIORITIES
from todo_api.tasks.pagination import MAX_LIMIT, is_day

UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # PostgreSQL has no U+0000, UTF-8 no surrogates
SORTED_BY = ("created_at", "updated_at", "title", "due_date", "priority")
SORTS = [sign + name for name in SORTED_BY for sign in ("", "-")]
MAX_TAGS = 20
BAD_LIMIT = f"Must be a whole number from 1 to {MAX_LIMIT}."
MOST_EXPLAINED = 20  # unknown names of one request


class Text(fields.String):
    """A string that both databases can store. `validate` sees it after trimming."""

    default_error_messages = {
        "invalid": "Must be a string.",
        "unstorable": "Must not contain U+0000 or a lone surrogate.",
    }

    def __init__(self, *, trim: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.trim = trim

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        text = super()._deserialize(value, *args, **kwargs)
        if UNSTORABLE.search(text):
            raise self.make_error("unstorable")
        return text.strip() if self.trim else text


class Day(Text):
    """A day as text, such as 2026-02-08 (`full-date` of RFC 3339)."""

    default_error_messages = {"day": "Must be a day such as 2026-02-08."}

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        text = super()._deserialize(value, *args, **kwargs)
        if not is_day(text):
            raise self.make_error("day")
        return text


class Tags(fields.List[str]):
    """An array of tags, each trimmed. Of equal ones the first stays."""

    default_error_messages = {
        "invalid": "Must be an array of strings.",
        "too_many": f"Must have at most {MAX_TAGS} tags.",
    }

    def __init__(self, **options: Any) -> None:
        super().__init__(Text(trim=True, validate=length(1, 50)), metadata={"maxItems": MAX_TAGS}, **options)

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(value, list):
            raise self.make_error("invalid")
        if len(value) > MAX_TAGS:
            raise self.make_error("too_many")
        try:
            return list(dict.fromkeys(super()._deserialize(value, *args, **kwargs)))
        except ValidationError as error:  # it has the messages of each index
            message = next(iter(error.messages_dict.values()))[0]
            raise ValidationError(message.replace("Must", "Each tag must", 1)) from None


class Boolean(fields.Boolean):
    """JSON true or false, and unlike marshmallow's neither "yes" nor 1."""

    default_error_messages = {"invalid": "Must be true or false."}

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(value, bool):
            raise self.make_error("invalid")
        return value


class QueryBoolean(fields.Boolean):
    """The word `true` or `false` in a query string."""

    truthy, falsy = {"true"}, {"false"}
    default_error_messages = Boolean.default_error_messages


class QueryInteger(fields.Integer):
    """Decimal digits in a query string, and unlike marshmallow's no sign, blank, underscore or leading zero."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        if not re.fullmatch("[1-9][0-9]{0,9}", value):
            raise self.make_error("invalid")
        return super()._deserialize(value, *args, **kwargs)


class Limit(QueryInteger):
    """How many entries an answer may have."""

    default_error_messages = {"invalid": BAD_LIMIT}

    def __init__(self) -> None:
        super().__init__(load_default=MAX_LIMIT, validate=Range(1, MAX_LIMIT, error=BAD_LIMIT))


def length(least: int, most: int) -> Length:
    return Length(least, most, error="Must have {min} to {max} characters.")


class InputSchema(Schema):
    """A schema that explains unknown names."""

    def handle_error(self, error: ValidationError, data: Any, **kwargs: Any) -> None:
        """Replace marshmallow's message for unknown names, but not for thousands of them."""
        unknown = sorted(error.messages_dict.keys() - self.fields.keys())
        for name in unknown[:MOST_EXPLAINED]:
            error.messages_dict[name] = [self.explain(name)]

    def explain(self, unknown: str) -> str:
        """Return the message for an unknown field: it has the name that was probably meant."""
        meant = get_close_matches(unknown[:LONGEST_NAME].lower(), self.fields, n=1)
        return f"Unknown field, did you mean {meant[0]}?" if meant else "Unknown field."


class TaskFields(InputSchema):
    """The fields of a task that a client may write."""

    title = Text(required=True, trim=True, validate=length(1, LONGEST_TITLE))
    description = Text(load_default=None, allow_none=True, validate=length(0, 2000))
    is_completed = Boolean(load_default=False)
    due_date = Day(load_default=None, allow_none=True)
    priority = fields.String(
        load_default=None,
        allow_none=True,
        validate=OneOf(PRIORITIES),
        error_messages={"invalid": "Must be a string."},
    )
    tags = Tags(load_default=list)


class TaskSchema(TaskFields):
    """A task. A client may send back the fields that are `dump_only`; they are ignored."""

    id = fields.UUID(dump_only=True)
    user_id = fields.String(dump_only=True, validate=length(1, 255))
    completed_at = fields.DateTime(dump_only=True, allow_none=True)
    created_at = fields.DateTime(dump_only=True)
    updated_at = fields.DateTime(dump_only=True)

    @pre_load
    def drop_read_only(self, data: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {name: value for name, value in data.items() if name not in READ_ONLY}


class CompletionSchema(InputSchema):
    """What can be changed in many tasks at once."""

    is_completed = Boolean(required=True)


class QuerySchema(InputSchema):
    """No parameters."""

    error_messages = {"unknown": "Unknown parameter."}

    def explain(self, unknown: str) -> str:
        """Return the message for an unknown parameter: it has the names of all known ones."""
        return f"Unknown parameter; known are: {', '.join(self.fields) or 'none'}."


class SelectionSchema(QuerySchema):
    """The tasks that a bulk request is about."""

    is_completed = QueryBoolean(required=True)


class ListSchema(QuerySchema):
    """The parameters of the list."""

    is_completed = QueryBoolean()
    priority = fields.String(validate=OneOf([*PRIORITIES, "none"]))
    tag = Tags()
    due_from = Day()
    due_to = Day()
    q = Text(trim=True, validate=length(0, 200))
    sort = fields.String(load_default="-created_at", validate=OneOf(SORTS))
    limit = Limit()
    cursor = fields.String()
    include_total = QueryBoolean(load_default=False)

    @post_load
    def drop_empty_search(self, data: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return data | {"q": data.get("q") or None}


class FeedSchema(QuerySchema):
    """The parameters of the feed of changes."""

    since = fields.String()
    limit = Limit()


NEW_TASK = TaskSchema()
CHANGES = TaskSchema(partial=True)
COMPLETION = CompletionSchema()
NO_PARAMETERS = QuerySchema()
SELECTION = SelectionSchema()
LIST = ListSchema()
FEED = FeedSchema()
READ_ONLY = frozenset(name for name, field in NEW_TASK.fields.items() if field.dump_only)
