"""The owner-scoped query helper: all access to tasks, limited to one user.

`OwnedTasks` is made from a user id, and every statement names that owner. The one exception checks whether an id exists
at all, after the owner's own look-up found nothing, and not with CONCEAL_FOREIGN_TASKS. It returns no data of the row.
"""

import json
import logging
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from secrets import randbelow
from typing import Any, NamedTuple

from flask import current_app

from todo_api.database import ConstraintViolated, DatabaseUnavailable, Statement, get_database
from todo_api.etags import Tags
from todo_api.models import RFC3339, new_task_id
from todo_api.tasks import errors, feed, statements
from todo_api.tasks.dialects import search_pattern
from todo_api.tasks.pagination import DEFAULT_QUERY, MAX_LIMIT, Query, is_moment
from todo_api.tasks.schemas import NEW_TASK

TASK_ID = re.compile("[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")
MAX_ATTEMPTS = 10  # of a creation, while the user, the key's task or the last task below the limit is deleted
MAX_RECOUNTS = 1000  # attempts of one while the user writes
NO_LIMIT = 2**31 - 1
NO_VERSION = b"none"  # of a user without a row
MAX_DELETIONS_KEPT = 100_000  # of each user; some 10 MB
PRUNE_EVERY = 100  # writes, on average
# The digest of an Idempotency-Key covers these fields, and others that differ from their defaults: so a retry from
# before a field was added still matches. Never change this.
ALWAYS_DIGESTED = ("title", "description", "is_completed")

Rows = list[Any]

logger = logging.getLogger(__name__)


class StoredTask(NamedTuple):
    """A task as stored; `json` is the text that the API returns."""

    id: str
    version: str
    json: bytes
    replayed: bool = False  # an earlier call with the same key made it

    @classmethod
    def of(cls, row: tuple[Any, ...]) -> "StoredTask":
        """Return the task in a row of `statements.task_columns`."""
        task_id, version, document = row
        return cls(task_id.decode(), version.decode(), document)


class Page(NamedTuple):
    """A JSON document made of the user's tasks, None when the client has it already, and what to know about it."""

    json: bytes | None
    tag: str
    next_cursor: str | None = None
    total: str | None = None


class OwnedTasks:
    """The tasks of one user."""

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self._database = get_database()
        self._user = {"user_id": user_id, "user_json": json.dumps(user_id, ensure_ascii=False)}

    def list(self, query: Query = DEFAULT_QUERY, if_none_match: Tags | None = None) -> Page:
        """Return a page of tasks, without them if `if_none_match` has their tag. Raises InvalidCursor."""
        start, others = query.start(self.user_id), query.other_filters()
        digest = query.digest(self.user_id)
        known = known_versions(if_none_match, digest)
        statement = statements.page(
            is_completed=query.is_completed is not None,
            q=bool(query.q),
            others=any(others.values()),
            sort=query.sort,
            after=start and ("missing" if start.sort_value is None else "value"),
            total=query.include_total,
            known=bool(known),
        )
        value, task_id = start or (None, None)
        values = {
            "is_completed": query.is_completed,
            "q": query.q,
            "q_pattern": search_pattern(query.q or ""),
            **others,
            "limit": query.limit + 1,
            "known": array_of(known),
            "value": value,
            "after_id": task_id,
        }
        rows = self._fetch(statement, values)
        version, total = rows.pop(0) if rows else (NO_VERSION, b"0" if query.include_total else None)
        tag = f"{version.decode()}/{digest}"
        if if_none_match and if_none_match.match(tag):
            return Page(None, tag)
        tasks = [row[1] for row in rows[: query.limit]]
        next_cursor = query.cursor_after(tasks[-1], self.user_id) if len(rows) > query.limit else None
        return Page(feed.json_array(tasks), tag, next_cursor, total.decode() if total else None)

    def changes(self, since: str | None = None, limit: int = MAX_LIMIT, if_none_match: Tags | None = None) -> Page:
        """Return what changed since a token, or a first copy. Raises InvalidSince, ChangesExpired."""
        seen = feed.Position() if since is None else feed.decode(since, self.user_id)
        digest = feed.digest(since, limit, self.user_id)
        known = known_versions(if_none_match, digest)
        values = {**seen.parameters(), "limit": limit + 1, "known": array_of(known)}
        rows = self._fetch(statements.changes(first=since is None, known=bool(known)), values)
        owner = feed.Owner.of(rows.pop(0)) if rows else None
        seen.check(owner, current_app.config["DELETIONS_KEPT_DAYS"])
        tag = f"{owner.version if owner else NO_VERSION.decode()}/{digest}"
        if if_none_match and if_none_match.match(tag):
            return Page(None, tag)
        return Page(feed.document(rows, seen, owner, limit, self.user_id), tag)

    def create(self, title: str, *, key: str | None = None, **fields: Any) -> StoredTask:
        """Store a new task, once for all calls with the same key. Raises TaskLimitReached, IdempotencyKeyReused."""
        defaults = default_fields()
        body = defaults | {"title": title} | fields
        digested = {name: it for name, it in body.items() if name in ALWAYS_DIGESTED or it != defaults[name]}
        digest = sha256(json.dumps(digested).encode()).digest() if key else None
        max_tasks = current_app.config["MAX_TASKS_PER_USER"] or NO_LIMIT
        values: dict[str, Any] = {"id": new_task_id(), **body, "key": key, "digest": digest, "max_tasks": max_tasks}
        for _ in range(MAX_ATTEMPTS):
            if created := self._insert(values) or (key and self._find_by_key(values)):
                self._prune_sometimes()
                return created
            if not self._create_user() and self._fetch(statements.LIMIT_REACHED, values):
                if stored := self._find(values["id"]):
                    return stored  # the connection was lost after it took the last place
                raise errors.TaskLimitReached
        raise DatabaseUnavailable(RuntimeError("the user, or the key's task, is repeatedly created and deleted"))

    def get(self, task_id: str) -> StoredTask:
        """Return the task. Raises TaskNotFound, TaskForbidden."""
        return StoredTask.of(self._run_on_task(statements.get(), task_id))

    def update(self, task_id: str, changes: Mapping[str, Any], if_match: Tags | None = None) -> StoredTask:
        """Change the named fields, none or more, of the task at a version of `if_match`.

        Raises TaskNotFound, TaskForbidden, PreconditionFailed.
        """
        versions = versions_of(if_match)
        if not changes:
            return StoredTask.of(self._run_on_task(statements.get(if_match=versions is not None), task_id, versions))
        statement = statements.change(tuple(sorted(changes)), if_match=versions is not None)
        row = self._run_on_task(statement, task_id, versions, changes)
        self._prune_sometimes()
        return StoredTask.of(row)

    def delete(self, task_id: str, if_match: Tags | None = None) -> None:
        """Delete the task at a version of `if_match`. Raises TaskNotFound, TaskForbidden, PreconditionFailed."""
        versions = versions_of(if_match)
        self._run_on_task(statements.remove(if_match=versions is not None), task_id, versions)
        self._prune_sometimes()

    def mark_all(self, *, is_completed: bool, mark: bool) -> int:
        """Set `is_completed` of all tasks with that value to `mark`, and return their number."""
        return self._execute(statements.MARK_ALL, {"is_completed": is_completed, "mark": mark})

    def delete_all(self, *, is_completed: bool) -> int:
        """Delete all tasks with that value of `is_completed`, and return their number."""
        number = self._execute(statements.DELETE_ALL, {"is_completed": is_completed})
        if number:
            self._prune()
        return number

    def recount(self) -> None:
        """Count the user's tasks, and let all copies and lists be read anew. Raises DatabaseUnavailable.

        Only needed after code has run that does not write through the owner's row.
        """
        for _ in range(MAX_RECOUNTS):
            rows = self._fetch(statements.OWNER_VERSION, {})
            if not rows or self._execute(statements.RECOUNT, {"versions": array_of([rows[0][0].decode()])}):
                return
        raise DatabaseUnavailable(RuntimeError("the user writes all the time"))

    def _prune_sometimes(self) -> None:
        """Prune after one in PRUNE_EVERY writes, so that each user who writes is pruned, and few requests do it."""
        if randbelow(PRUNE_EVERY) == 0:
            self._prune()

    def _prune(self) -> None:
        """Forget deletions that are too old or too many. A failure is logged: what came before it is done."""
        horizon = datetime.now(UTC) - timedelta(days=current_app.config["DELETIONS_KEPT_DAYS"])
        try:
            self._execute(statements.PRUNE, {"horizon": horizon.strftime(RFC3339), "kept": MAX_DELETIONS_KEPT})
        except DatabaseUnavailable as error:
            logger.warning("records of deletions were not pruned: %s", error)

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
            return tuple(rows[0])
        # The same steps for a foreign and a missing task. With CONCEAL_FOREIGN_TASKS none looks at other users' tasks.
        look = statements.IS_OWN if current_app.config["CONCEAL_FOREIGN_TASKS"] else statements.EXISTS
        [(is_any, is_own)] = self._fetch(look, values)
        # Again, as an EXECUTE that waits for an ALTER TABLE may see no rows: its snapshot is from before the wait.
        if is_own and (rows := self._fetch(statement, values)):
            return tuple(rows[0])
        if is_own and versions is not None:
            raise errors.PreconditionFailed
        raise errors.TaskForbidden if is_any and not is_own else errors.TaskNotFound

    def _find(self, task_id: str) -> StoredTask | None:
        rows = self._fetch(statements.get(), {"id": task_id})
        return StoredTask.of(rows[0]) if rows else None

    def _insert(self, values: Mapping[str, Any]) -> StoredTask | None:
        """Store the task. Return None if the user is unknown, the limit is reached or the key was used."""
        try:
            rows = self._fetch(statements.create(keyed=values["key"] is not None), values)
        except ConstraintViolated as error:
            if not error.is_key_violation:
                raise
            # The user was deleted or the key was used at the same time; or the task was stored before the connection
            # was lost, and this is the retry.
            return self._find(values["id"])
        return StoredTask.of(rows[0]) if rows else None

    def _find_by_key(self, values: Mapping[str, Any]) -> StoredTask | None:
        """Return the task that the key made. Raises IdempotencyKeyReused."""
        rows = self._fetch(statements.FIND_KEY, {"key": values["key"]})
        if not rows:
            return None
        *columns, digest = rows[0]
        if bytes(digest) != values["digest"]:
            raise errors.IdempotencyKeyReused
        task = StoredTask.of(tuple(columns))
        return task._replace(replayed=task.id != values["id"])

    def _create_user(self) -> bool:
        """Create the user's row; return whether there was none."""
        try:
            return bool(self._execute(statements.CREATE_USER, {}))
        except ConstraintViolated:  # another request created it in this very moment
            return False

    def _fetch(self, statement: Statement, values: Mapping[str, Any]) -> Rows:
        return self._database.fetch(statement, self._with_user(values))

    def _execute(self, statement: Statement, values: Mapping[str, Any]) -> int:
        return self._database.execute(statement, self._with_user(values))

    def _with_user(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters of a statement: the user's and `values`, with a list as JSON."""
        found = {**values, **self._user}
        for name, value in values.items():
            if isinstance(value, list):
                found[name] = json.dumps(value, ensure_ascii=False)
        if self._database.is_sqlite:
            found["now"] = datetime.now(UTC).strftime(RFC3339)
        return found


@cache
def default_fields() -> dict[str, Any]:
    """Return what a client may write, in the order of the digest, with the value of what it leaves out."""
    defaults = {column.name: NEW_TASK.fields[column.name].load_default for column in statements.WRITABLE}
    return {name: default() if callable(default) else default for name, default in defaults.items()}


def user_ids() -> list[str]:
    """Return all users."""
    return [row[0].decode() for row in get_database().fetch(statements.USERS, {})]


def known_versions(if_none_match: Tags | None, digest: str) -> list[str]:
    """Return the versions in tags of the form <version>/<digest>."""
    found = [tag.partition("/") for tag in if_none_match.listed] if if_none_match else []
    return [version for version, _, rest in found if rest == digest and is_moment(version)]


def versions_of(if_match: Tags | None) -> str | None:
    """Return the versions of an `If-Match` header as a PostgreSQL array, None if any version will do."""
    return None if if_match is None or if_match.any else array_of(filter(is_moment, if_match.listed))


def array_of(times: Iterable[str]) -> str:
    """Return the text of a PostgreSQL array."""
    return f"{{{','.join(times)}}}"
