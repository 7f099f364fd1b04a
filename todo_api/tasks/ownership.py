"""The owner-scoped query helper: all access to tasks, limited to one user.

`OwnedTasks` is made from a user id, and every statement names that owner. The one exception checks
whether an id exists at all, after the owner's own look-up found nothing. It returns no data of the row.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, NamedTuple

from flask import current_app

from todo_api.database import ConstraintViolated, DatabaseUnavailable, Statement, get_database
from todo_api.models import RFC3339, new_task_id
from todo_api.tasks import errors, statements
from todo_api.tasks.etags import Tags
from todo_api.tasks.pagination import DEFAULT_QUERY, Position, Query, is_moment

TASK_ID = re.compile("[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")
MAX_ATTEMPTS = 5  # of a creation: it retries if the user, or the key's task, is deleted at the same time
TASKS_IN_A_PIECE = 1000
# The order and the values decide the digests of Idempotency-Keys: only append.
DEFAULTS = {column.name: getattr(column.default, "arg", None) for column in statements.WRITABLE}

Rows = list[Any]
Texts = list[str]


class StoredTask(NamedTuple):
    """A task as stored; `json` is the text that the API returns."""

    id: str
    version: str
    json: str
    replayed: bool = False  # an earlier call with the same key made it


class Page(NamedTuple):
    """Tasks as a JSON array in pieces, None when the client has them already, and what to know about them."""

    tasks: list[bytes] | None
    tag: str
    next_cursor: str | None = None
    total: int | None = None


class OwnedTasks:
    """The tasks of one user."""

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self._database = get_database()
        self._user = {"user_id": user_id, "user_json": json.dumps(user_id, ensure_ascii=False)}

    def list(self, query: Query = DEFAULT_QUERY, if_none_match: Tags | None = None) -> Page:
        """Return a page of tasks, without them if `if_none_match` has their tag. Raises InvalidCursor."""
        start = query.start(self.user_id)
        total = self._count(query) if query.include_total else None
        rows = self._page(query, start)
        next_cursor = None
        if query.limit and len(rows) > query.limit:
            del rows[query.limit :]
            next_cursor = self._cursor_after(query, rows[-1])
        pieces = json_array(rows)
        tag = tag_of(pieces, self.user_id, query, total, next_cursor)
        return Page(None, tag) if if_none_match and if_none_match.match(tag) else Page(pieces, tag, next_cursor, total)

    def create(self, title: str, *, key: str | None = None, **fields: Any) -> StoredTask:
        """Store a new task, once for all calls with the same key. Raises TaskLimitReached, IdempotencyKeyReused.

        n simultaneous creations can pass the limit by n - 1 at most.
        """
        body = DEFAULTS | {"title": title} | fields
        digest = sha256(json.dumps(body).encode()).digest() if key else None
        values: dict[str, Any] = {"id": new_task_id(), **body, "key": key, "digest": digest}
        for _ in range(MAX_ATTEMPTS):
            if created := self._insert(values) or (key and self._find_by_key(values)):
                return created
            if not self._create_user() and self._is_full(values):
                if stored := self._find(values["id"]):
                    return stored  # the connection was lost after it took the last place
                raise errors.TaskLimitReached
        raise DatabaseUnavailable(RuntimeError("the user, or the key's task, is repeatedly created and deleted"))

    def get(self, task_id: str) -> StoredTask:
        """Return the task. Raises TaskNotFound, TaskForbidden."""
        return StoredTask(*self._run_on_task(statements.get(), task_id))

    def update(self, task_id: str, changes: Mapping[str, Any], if_match: Tags | None = None) -> StoredTask:
        """Change the named fields, none or more, of the task at a version of `if_match`.

        Raises TaskNotFound, TaskForbidden, PreconditionFailed.
        """
        versions = versions_of(if_match)
        if changes:
            statement = statements.change(tuple(sorted(changes)), if_match=versions is not None)
        else:
            statement = statements.get(if_match=versions is not None)
        return StoredTask(*self._run_on_task(statement, task_id, versions, changes))

    def delete(self, task_id: str, if_match: Tags | None = None) -> None:
        """Delete the task at a version of `if_match`. Raises TaskNotFound, TaskForbidden, PreconditionFailed."""
        versions = versions_of(if_match)
        self._run_on_task(statements.remove(if_match=versions is not None), task_id, versions)

    def mark_all(self, *, is_completed: bool, mark: bool) -> int:
        """Set `is_completed` of all tasks with that value to `mark`, and return their number."""
        return self._execute(statements.MARK_ALL, {"is_completed": is_completed, "mark": mark})

    def delete_all(self, *, is_completed: bool) -> int:
        """Delete all tasks with that value of `is_completed`, and return their number."""
        return self._execute(statements.DELETE_ALL, {"is_completed": is_completed})

    def delete_user(self) -> bool:
        """Delete the user and all their tasks; return whether there was such a user."""
        return bool(self._execute(statements.DELETE_USER, {}))

    def _run_on_task(
        self, statement: Statement, task_id: str, versions: str | None = None, changes: Mapping[str, Any] | None = None
    ) -> tuple[Any, ...]:
        """Run a statement on one task of the user. If it finds none, raise the error that says why."""
        if not TASK_ID.fullmatch(task_id):
            raise errors.TaskNotFound
        values = {**(changes or {}), "id": task_id.lower(), "versions": versions}
        if rows := self._fetch(statement, values):
            row: tuple[Any, ...] = rows[0]
            return row
        if versions is not None and self._find(values["id"]):
            raise errors.PreconditionFailed
        if not self._database.fetch(statements.EXISTS, {"id": values["id"]}):
            raise errors.TaskNotFound
        error = errors.TaskNotFound() if current_app.config["CONCEAL_FOREIGN_TASKS"] else errors.TaskForbidden()
        error.foreign_task = True  # for the log and the metrics
        raise error

    def _find(self, task_id: str) -> StoredTask | None:
        rows = self._fetch(statements.get(), {"id": task_id})
        return StoredTask(*rows[0]) if rows else None

    def _insert(self, values: Mapping[str, Any]) -> StoredTask | None:
        """Store the task. Return None if the user is unknown, the limit is reached or the key was used."""
        row_at_limit = current_app.config["MAX_TASKS_PER_USER"] - 1
        statement = statements.create(limited=row_at_limit >= 0, keyed=values["key"] is not None)
        try:
            rows = self._fetch(statement, {**values, "row_at_limit": row_at_limit})
        except ConstraintViolated as error:
            if not error.is_key_violation:
                raise
            # The user was deleted or the key was used at the same time; or the task was stored before the connection
            # was lost, and this is the retry.
            return self._find(values["id"])
        return StoredTask(*rows[0]) if rows else None

    def _find_by_key(self, values: Mapping[str, Any]) -> StoredTask | None:
        """Return the task that the key made. Raises IdempotencyKeyReused."""
        rows = self._fetch(statements.FIND_KEY, {"key": values["key"]})
        if not rows:
            return None
        task_id, version, document, digest = rows[0]
        if bytes(digest) != values["digest"]:
            raise errors.IdempotencyKeyReused
        return StoredTask(task_id, version, document, replayed=task_id != values["id"])

    def _create_user(self) -> bool:
        """Create the user's row; return whether there was none."""
        try:
            return bool(self._execute(statements.CREATE_USER, {}))
        except ConstraintViolated:  # another request created it in this very moment
            return False

    def _is_full(self, values: Mapping[str, Any]) -> bool:
        row_at_limit = current_app.config["MAX_TASKS_PER_USER"] - 1
        # In one statement: a simultaneous call with the same key may have taken the last place.
        return row_at_limit >= 0 and bool(
            self._fetch(statements.LIMIT_REACHED, {"key": values["key"], "row_at_limit": row_at_limit})
        )

    def _count(self, query: Query) -> int:
        statement = statements.count(is_completed=query.is_completed is not None, q=bool(query.q))
        return int(self._fetch(statement, {"is_completed": query.is_completed, "q": query.q})[0][0])

    def _page(self, query: Query, start: Position | None) -> Texts:
        """Return the JSON of each task of the page, and of the task after it when there is one."""
        statement = statements.page(
            is_completed=query.is_completed is not None,
            q=bool(query.q),
            sort=query.sort,
            after=start is not None,
            limited=query.limit is not None,
        )
        value, task_id = start or (None, None)
        values = {"is_completed": query.is_completed, "q": query.q, "limit": (query.limit or 0) + 1}
        return [row[0] for row in self._fetch(statement, {**values, "value": value, "after_id": task_id})]

    def _cursor_after(self, query: Query, task: str) -> str:
        last = json.loads(task)
        return query.cursor_after(Position(last[query.column], last["id"]), self.user_id)

    def _fetch(self, statement: Statement, values: Mapping[str, Any]) -> Rows:
        return self._database.fetch(statement, self._with_user(values))

    def _execute(self, statement: Statement, values: Mapping[str, Any]) -> int:
        return self._database.execute(statement, self._with_user(values))

    def _with_user(self, values: Mapping[str, Any]) -> dict[str, Any]:
        found = {**values, **self._user}
        if self._database.is_sqlite:
            found["now"] = datetime.now(UTC).strftime(RFC3339)
        return found


def versions_of(if_match: Tags | None) -> str | None:
    """Return the versions of an `If-Match` header as the text of a PostgreSQL array, None if any version will do."""
    if if_match is None or if_match.any:
        return None
    return f"{{{','.join(filter(is_moment, if_match.listed))}}}"


def json_array(tasks: Texts) -> list[bytes]:
    """Return the tasks as a JSON array in pieces, which take half the memory of one text."""
    starts = range(0, len(tasks), TASKS_IN_A_PIECE)
    pieces = [",".join(tasks[start : start + TASKS_IN_A_PIECE]).encode() for start in starts]
    return [b"[", *[part for piece in pieces for part in (b",", piece)][1:], b"]"]


def tag_of(pieces: list[bytes], *rest: Any) -> str:
    """Return a digest of the body and of `rest`."""
    digest = sha256(repr(rest).encode())
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()[:32]
