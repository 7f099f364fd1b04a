"""The marshmallow schemas of bodies and query parameters."""

import re
from collections.abc import Mapping
from typing import Any

from marshmallow import Schema, ValidationError, fields, pre_load

TITLE_MAX = 200
DESCRIPTION_MAX = 2000
SEARCH_MAX = 200
LIMIT_MAX = 1000
SORTS = ("created_at", "updated_at", "title")
READ_ONLY = {"id", "user_id", "created_at", "updated_at"}
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # PostgreSQL has no U+0000, UTF-8 no surrogates


def says(description: str) -> dict[str, str]:
    """Return the metadata of a field that the OpenAPI document shows."""
    return {"description": description}


class Text(fields.Field[str]):
    """A string of `least` to `most` Unicode code points, all of which a database can keep."""

    default_error_messages = {
        "invalid": "Must be a string.",
        "unstorable": "Must not contain U+0000 or a lone surrogate.",
        "length": "Must have {least} to {most} characters.",
    }

    def __init__(self, *, least: int, most: int, trim: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.least, self.most, self.trim = least, most, trim

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        if not isinstance(value, str):
            raise self.make_error("invalid")
        if UNSTORABLE.search(value):
            raise self.make_error("unstorable")
        text = value.strip() if self.trim else value
        if not self.least <= len(text) <= self.most:
            raise self.make_error("length", least=self.least, most=self.most)
        return text


class StrictBoolean(fields.Field[bool]):
    """JSON true or false; no "yes", no 1."""

    default_error_messages = {"invalid": "Must be true or false."}

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid")
        return value


class TaskSchema(Schema):
    """A task as a client may write it; the server's own fields may be sent back and are ignored."""

    title = Text(least=1, most=TITLE_MAX, trim=True, required=True, metadata=says("What is to be done."))
    description = Text(
        least=0, most=DESCRIPTION_MAX, allow_none=True, load_default=None, metadata=says("More about it; not trimmed.")
    )
    is_completed = StrictBoolean(load_default=False, metadata=says("Whether it is done."))

    @pre_load
    def drop_read_only(self, data: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {name: value for name, value in data.items() if name not in READ_ONLY}


class MarkSchema(Schema):
    """What may be changed in many tasks at once."""

    is_completed = StrictBoolean(required=True, metadata=says("What all of them become."))


class Choice(fields.Field[Any]):
    """One of some words of a query, each with what it stands for."""

    def __init__(self, choices: Mapping[str, Any], **options: Any) -> None:
        super().__init__(**options)
        self.choices = choices

    def _deserialize(self, value: str, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        if value not in self.choices:
            raise ValidationError(f"Must be {' or '.join(self.choices)}.")
        return self.choices[value]


class Limit(fields.Field[int]):
    """A number of tasks in decimal digits."""

    default_error_messages = {"invalid": f"Must be a whole number from 1 to {LIMIT_MAX}."}

    def _deserialize(self, value: str, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> int:
        if not re.fullmatch("[1-9][0-9]{0,3}", value) or int(value) > LIMIT_MAX:
            raise self.make_error("invalid")
        return int(value)


class Search(Text):
    """Text to look for; empty means none."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        return super()._deserialize(value, attr, data, **kwargs) or None


TRUE_FALSE = {"true": True, "false": False}


class QuerySchema(Schema):
    """No parameters."""

    error_messages = {"unknown": "Unknown parameter."}


class WhichSchema(QuerySchema):
    """The tasks that a change of many is about."""

    is_completed = Choice(TRUE_FALSE, required=True, metadata=says("Which of the caller's tasks: those that are so."))


class ListSchema(QuerySchema):
    """The parameters of the list."""

    is_completed = Choice(TRUE_FALSE, metadata=says("Only tasks that are so."))
    q = Search(
        least=0,
        most=SEARCH_MAX,
        trim=True,
        metadata=says("Only tasks with this text in title or description, in either case; `%` and `_` are plain."),
    )
    sort = Choice(
        {sign + name: sign + name for name in SORTS for sign in ("", "-")},
        metadata=says("`-`: descending. `title` sorts by code point; ties by `id`, in the same direction."),
    )
    limit = Limit(metadata=says("One page of so many tasks; without it all, or with `cursor` all the rest."))
    cursor = fields.Raw(
        metadata=says("From the page before. The other parameters stay as they were, but `limit` and `include_total`.")
    )
    include_total = Choice(TRUE_FALSE, metadata=says("`true` adds `X-Total-Count`."))


NEW_TASK = TaskSchema()
CHANGES = TaskSchema(partial=True)
MARK = MarkSchema()
NO_PARAMETERS = QuerySchema()
WHICH = WhichSchema()
LIST = ListSchema()
