"""What a list is asked for, and the cursor that leads from page to page."""

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from hashlib import blake2b
from typing import Any, NamedTuple
from uuid import UUID

from todo_api.models import LONGEST_TITLE, PRIORITIES, RFC3339, Task
from todo_api.tasks.errors import InvalidCursor

SCOPE_BYTES = 12
VALUE_AT = SCOPE_BYTES + 16  # after the scope and the task's id
MAX_LIMIT = 1000
OTHER_FILTERS = ("priority", "tag", "due_from", "due_to")
BASE64URL = re.compile("(?:[A-Za-z0-9_-]{4})*(?:[A-Za-z0-9_-]{2,3})?")


def digest_of(*values: Any) -> bytes:
    return blake2b(json.dumps(values).encode(), digest_size=SCOPE_BYTES).digest()


class Position(NamedTuple):
    """Where a page ended: the sort value of its last task, which may have none, and that task's id."""

    sort_value: str | None
    task_id: str


@dataclass(frozen=True, kw_only=True)
class Query:
    """The parameters of a list; by default all tasks, newest first."""

    is_completed: bool | None = None
    priority: str | None = None
    tag: Sequence[str] | None = None
    due_from: str | None = None
    due_to: str | None = None
    q: str | None = None
    sort: str = "-created_at"
    limit: int = MAX_LIMIT
    cursor: str | None = None
    include_total: bool = False

    @property
    def column(self) -> str:
        return self.sort.removeprefix("-")

    def scope(self, user_id: str) -> bytes:
        """Return a digest of the user and of the parameters that all pages of one list share."""
        others = self.other_filters().values()
        # Left out where not in use, so that cursors from before these filters were added still match.
        return digest_of(user_id, self.is_completed, self.q, self.sort, *(others if any(others) else ()))

    def other_filters(self) -> dict[str, Any]:
        """Return the filters except `is_completed` and `q`, None where one is not in use."""
        return {name: getattr(self, name) for name in OTHER_FILTERS}

    def parameters_after(self, cursor: str) -> dict[str, Any]:
        """Return the parameters of the page at `cursor`, without those at their defaults."""
        values = {name: value for name, value in vars(self).items() if value != getattr(DEFAULT_QUERY, name)}
        texts = {name: str(value).lower() if isinstance(value, bool) else value for name, value in values.items()}
        return texts | {"cursor": cursor}

    def digest(self, user_id: str) -> str:
        """Return a digest of the user and of all parameters."""
        return digest_of(user_id, *vars(self).values()).hex()

    def cursor_after(self, task: bytes, user_id: str) -> str:
        """Return the cursor of the page that begins after a task, which is JSON."""
        last = json.loads(task)
        return encode_base64(self.scope(user_id) + UUID(last["id"]).bytes + (last[self.column] or "").encode())

    def start(self, user_id: str) -> Position | None:
        """Return the position that the cursor holds, None without a cursor. Raises InvalidCursor."""
        if self.cursor is None:
            return None
        try:
            raw = decode_base64(self.cursor)
            scope, task_id, value = raw[:SCOPE_BYTES], raw[SCOPE_BYTES:VALUE_AT], raw[VALUE_AT:]
            position = Position(self._sort_value(value.decode()), str(UUID(bytes=task_id)))
        except ValueError:
            raise InvalidCursor from None
        if scope != self.scope(user_id):
            raise InvalidCursor
        return position

    def _sort_value(self, text: str) -> str | None:
        """Return the sort value in a cursor. Raises ValueError if no task can have it: the database would fail."""
        if not text and is_optional(self.column):
            return None
        checks = {"title": is_title, "due_date": is_day, "priority": PRIORITIES.__contains__}
        if not checks.get(self.column, is_moment)(text):
            raise ValueError("no task has this value")
        return text


def is_optional(column: str) -> bool:
    """Return whether a task may lack a value in this column."""
    return bool(Task.__table__.c[column].nullable)


def is_title(text: str) -> bool:
    return "\0" not in text and len(text) <= LONGEST_TITLE


def is_day(text: str) -> bool:
    """Return whether a text is a day such as 2026-02-08 (`full-date` of RFC 3339)."""
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def is_moment(text: str) -> bool:
    """Return whether a text is a time as the API writes it (RFC 3339, in UTC with microseconds)."""
    try:
        return datetime.strptime(text, RFC3339).replace(tzinfo=UTC).strftime(RFC3339) == text
    except ValueError:
        return False


DEFAULT_QUERY = Query()


def encode_base64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")


def decode_base64(text: str) -> bytes:
    """Return what was encoded. Raises ValueError, for other spellings that base64 tolerates too."""
    if not BASE64URL.fullmatch(text) or encode_base64(raw := urlsafe_b64decode(text + "==")) != text:
        raise ValueError("not base64url without padding")
    return raw
