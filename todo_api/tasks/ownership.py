"""The owner-scoped query helper: the only door to tasks.

`OwnedTasks` is made from a user id and cannot be made without one; every statement names that owner. The single
exception looks whether an id exists at all, after the owner's own look-up found nothing, and returns no column of the
row. Tasks come out as the JSON text that the API answers with. The database writes it, but for a new one.
"""

import json
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, NamedTuple

from flask import Flask, current_app

from todo_api.database.execution import ConstraintViolated, Database
from todo_api.errors import ApiError
from todo_api.extensions import db
from todo_api.models import RFC3339, new_task_id
from todo_api.tasks.etags import Tags
from todo_api.tasks.pagination import EVERYTHING, Position, Query
from todo_api.telemetry.requests import add_database_time

TASK_ID = re.compile("[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")
FOREIGN_KEY_VIOLATION = "23503"
UNIQUE_VIOLATION = "23505"
TASKS_IN_A_PIECE = 1000

# Two changes of many tasks of one user would wait for each other's rows; new tasks are not held up.
IN_TURN = " AND user_id = (SELECT id FROM users WHERE id = %(user_id)s FOR NO KEY UPDATE)"

MOMENT = """to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
CREATED_AT, VERSION = MOMENT.format("created_at"), MOMENT.format("updated_at")

# What the two databases say differently: the version of a task as text, JSON, the time now, an id as a value, the next
# version, the order of titles by code point, lower case, the place of a text in another.
POSTGRESQL = {
    "version": VERSION,
    "task": f"""json_build_object('id', id, 'user_id', user_id, 'title', title, 'description', description,
        'is_completed', is_completed, 'created_at', {CREATED_AT}, 'updated_at', {VERSION})::text""",
    # The same for many: written piece by piece a row takes 1.9 us, but the statement 8 us longer to plan.
    "listed": f"""'{{"id":"' || id::text || '","user_id":' || %(user_json)s || ',"title":' || to_json(title)::text
        || ',"description":' || coalesce(to_json(description)::text, 'null')
        || CASE WHEN is_completed THEN ',"is_completed":true' ELSE ',"is_completed":false' END
        || ',"created_at":"' || {CREATED_AT} || '","updated_at":"' || {VERSION} || '"}}'""",
    "identity": f"""'{{"id":"' || id::text || '","updated_at":"' || {VERSION} || '"}}'""",
    "now": "now()",
    "id": "%(id)s::uuid",
    "next_version": "greatest(now(), updated_at + interval '1 microsecond')",
    "title": 'title COLLATE "C"',
    "lower": "lower",
    "position": "strpos",
    "in_turn": IN_TURN,
}
SQLITE_TASK = """json_object('id', id, 'user_id', user_id, 'title', title, 'description', description,
    'is_completed', json(CASE WHEN is_completed THEN 'true' ELSE 'false' END),
    'created_at', created_at, 'updated_at', updated_at)"""
SQLITE = {
    "version": "updated_at",
    "task": SQLITE_TASK,
    "listed": SQLITE_TASK,
    "identity": "json_object('id', id, 'updated_at', updated_at)",
    "now": "%(now)s",
    "id": "%(id)s",
    "next_version": "next_version(updated_at, %(now)s)",
    "title": "title",
    "lower": "lower_case",
    "position": "instr",
    "in_turn": "",
}

# {part}: put in by `fill`, or by `Statements` what hangs on the database; %(name)s: a value.
LIST = "SELECT {item} FROM tasks WHERE user_id = %(user_id)s{filters} ORDER BY {order}{limit}"
COUNT = "SELECT count(*) FROM tasks WHERE user_id = %(user_id)s{filters}"
GET = "SELECT {task} FROM tasks WHERE user_id = %(user_id)s AND id = %(id)s{if_match}"
EXISTS = "SELECT 1 FROM tasks WHERE id = %(id)s"
CREATE = """INSERT INTO tasks (user_id, id, title, description, is_completed, created_at, updated_at,
        idempotency_key, idempotency_digest)
    SELECT users.id, {id}, %(title)s, %(description)s, %(is_completed)s, {now}, {now}, %(key)s, %(digest)s
    FROM users WHERE users.id = %(user_id)s {room}{once} RETURNING {version}"""
ONCE = " ON CONFLICT (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING"
# A look at the last place costs 50 us less than counting.
ROOM = "AND (SELECT 1 FROM tasks WHERE user_id = %(user_id)s LIMIT 1 OFFSET {max_tasks} - 1) IS NULL"
# In one statement: a simultaneous call with the same key may have taken the last place.
FULL = """SELECT id FROM tasks WHERE user_id = %(user_id)s
    AND NOT EXISTS (SELECT 1 FROM tasks WHERE user_id = %(user_id)s AND idempotency_key = %(key)s) {full}"""
MADE_BEFORE = """SELECT CASE WHEN idempotency_digest = %(digest)s THEN {task} END
    FROM tasks WHERE user_id = %(user_id)s AND idempotency_key = %(key)s"""
CREATE_USER = "INSERT INTO users (id, created_at) VALUES (%(user_id)s, {now}) ON CONFLICT DO NOTHING RETURNING id"
UPDATE = """UPDATE tasks SET {changes}, updated_at = {next_version}
    WHERE user_id = %(user_id)s AND id = %(id)s{if_match} RETURNING {task}"""
DELETE = "DELETE FROM tasks WHERE user_id = %(user_id)s AND id = %(id)s{if_match} RETURNING id"
MARK_ALL = """UPDATE tasks SET is_completed = %(mark)s, updated_at = {next_version}
    WHERE user_id = %(user_id)s AND is_completed = %(is_completed)s{in_turn} RETURNING 1"""
DELETE_ALL = "DELETE FROM tasks WHERE user_id = %(user_id)s AND is_completed = %(is_completed)s{in_turn} RETURNING 1"
DELETE_USER = "DELETE FROM users WHERE id = %(user_id)s RETURNING id"

CREATE_ONCE = CREATE.replace("{once}", ONCE)

# A repeat of these after a lost connection is harmless: an id or key made beforehand tells that it is one.
REPEATABLE_WRITES = {CREATE, CREATE_ONCE, CREATE_USER}

# Parts of the statements above.
IF_MATCH = " AND {position}(%(versions)s, ' ' || {version} || ' ') > 0"
IS_COMPLETED = " AND is_completed = %(is_completed)s"
CONTAINS = """ AND ({position}({lower}(title), {lower}(%(q)s)) > 0
    OR {position}({lower}(description), {lower}(%(q)s)) > 0)"""
AFTER = " AND ({column}, id) {beyond} (%(value)s, %(id)s)"
COLUMNS = {"created_at": "created_at", "updated_at": "updated_at", "title": "{title}"}

Rows = list[str]  # the first column of what a statement returns


class TaskNotFound(ApiError):
    """There is no such task, or it is concealed."""

    status_code = 404
    error_code = "TASK_NOT_FOUND"
    detail = "There is no such task."


class TaskForbidden(ApiError):
    """The task belongs to somebody else."""

    status_code = 403
    error_code = "TASK_FORBIDDEN"
    detail = "This task belongs to another user."
    foreign_task = True


class TaskConcealed(TaskNotFound):
    """The task belongs to somebody else, and the client is not to know."""

    foreign_task = True


class TaskLimitReached(ApiError):
    status_code = 422
    error_code = "TASK_LIMIT_REACHED"
    detail = "This user has as many tasks as a user may have."


class IdempotencyKeyReused(ApiError):
    status_code = 422
    error_code = "IDEMPOTENCY_KEY_REUSED"
    detail = "This Idempotency-Key was sent before with another body."


class PreconditionFailed(ApiError):
    status_code = 412
    error_code = "PRECONDITION_FAILED"
    detail = "The task has been changed since you read it."


class Created(NamedTuple):
    """A task as JSON, and whether an earlier call with the same key made it."""

    task: str
    replayed: bool


class Page(NamedTuple):
    """Tasks as a JSON array in pieces, None when the client has them already, and what is to know about them."""

    tasks: list[str] | None
    tag: str
    next_cursor: str | None = None
    total: int | None = None


class OwnedTasks:
    """The tasks of one user."""

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self._statements: Statements = current_app.extensions["ownership"]

    def list(self, query: Query = EVERYTHING, unless: Tags | None = None) -> Page:
        """Return the tasks that the query asks for, without them when their tag is among those of `unless`.

        Raises InvalidCursor.
        """
        start = query.start(self.user_id)
        total = self._count(query) if query.include_total else None
        if unless and unless.match(tag := self._tag(query, self._rows("{identity}", query, start), total)):
            return Page(None, tag)
        rows = self._rows("{listed}", query, start)
        tag, next_cursor = self._tag(query, rows, total), self._next(query, rows)
        if query.limit:
            del rows[query.limit :]
        return Page(array_of(rows), tag, next_cursor, total)

    def create(
        self, title: str, description: str | None = None, is_completed: bool = False, *, key: str | None = None
    ) -> Created:
        """Store a new task, once for all calls with the same key. Raises TaskLimitReached, IdempotencyKeyReused.

        n simultaneous creations can pass the limit by n - 1 at most.
        """
        body = {"title": title, "description": description, "is_completed": is_completed}
        once = {"key": key, "digest": sha256(json.dumps(body).encode()).digest() if key else None}
        task_id = new_task_id()
        while not (created := self._insert({"id": task_id, **body, **once})):
            if key and (made_before := self._run(MADE_BEFORE, **once)):
                if made_before[0] is None:
                    raise IdempotencyKeyReused
                return Created(made_before[0], replayed=id_of(made_before[0]) != task_id)
            known = not self._run(CREATE_USER)  # else this is the user's first task
            if known and self._run(FULL, **once):
                if stored := self._run(fill(GET, if_match=""), id=task_id):
                    return Created(stored[0], replayed=False)  # the connection was lost after it took the last place
                raise TaskLimitReached
        return Created(created[0], replayed=False)

    def _insert(self, task: Mapping[str, Any]) -> Rows:
        """Return the new task, or nothing: the user is unknown or has too many tasks, or the key is taken."""
        try:
            versions = self._run(CREATE_ONCE if task["key"] else CREATE, **task)
            return [self._json(task, version) for version in versions]
        except ConstraintViolated as error:
            if error.code == FOREIGN_KEY_VIOLATION:
                return []  # the user was deleted in this very moment
            if error.code == UNIQUE_VIOLATION:  # the connection was lost after the task had been stored
                return self._run(fill(GET, if_match=""), id=task["id"])
            raise

    def _json(self, task: Mapping[str, Any], version: str) -> str:
        """Return a new task as JSON: the database would take 20 us for what is known here."""
        times = {"created_at": version, "updated_at": version}
        fields = {name: task[name] for name in ("title", "description", "is_completed")}
        document = {"id": task["id"], "user_id": self.user_id, **fields, **times}
        return json.dumps(document, ensure_ascii=False, separators=self._statements.separators)

    def get(self, task_id: str) -> str:
        """Return the task as JSON. Raises TaskNotFound, TaskForbidden."""
        return self._own(GET, task_id)

    def update(self, task_id: str, changes: Mapping[str, Any], if_match: Tags | None = None) -> str:
        """Change the named fields, none or more, of the task at a version of `if_match`; return the task as JSON.

        Raises TaskNotFound, TaskForbidden, PreconditionFailed.
        """
        assignments = ", ".join(f"{name} = %({name})s" for name in sorted(changes))
        return self._own(fill(UPDATE, changes=assignments) if changes else GET, task_id, if_match, **changes)

    def delete(self, task_id: str, if_match: Tags | None = None) -> None:
        """Delete the task at a version of `if_match`. Raises TaskNotFound, TaskForbidden, PreconditionFailed."""
        self._own(DELETE, task_id, if_match)

    def mark_all(self, *, is_completed: bool, mark: bool) -> int:
        """Set `is_completed` of all tasks where it is so to `mark`; return their number."""
        return len(self._run(MARK_ALL, is_completed=is_completed, mark=mark))

    def delete_all(self, *, is_completed: bool) -> int:
        """Delete all tasks that are completed, or all that are not; return their number."""
        return len(self._run(DELETE_ALL, is_completed=is_completed))

    def delete_user(self) -> bool:
        """Delete the user and all their tasks; return whether there was such a user."""
        return bool(self._run(DELETE_USER))

    def _own(self, statement: str, task_id: str, if_match: Tags | None = None, **values: Any) -> str:
        """Run a statement on the user's task; when it finds none, tell an old version, a missing and a foreign task."""
        if not TASK_ID.fullmatch(task_id):
            raise TaskNotFound
        values["id"] = task_id.lower()
        condition = ""
        if if_match and not if_match.any:
            condition, values["versions"] = IF_MATCH, f" {' '.join(if_match.listed)} "
        if found := self._run(fill(statement, if_match=condition), **values):
            return found[0]
        if condition and self._run(fill(GET, if_match=""), id=values["id"]):
            raise PreconditionFailed
        exists = self._statements.run(EXISTS, {"id": values["id"]})
        if not exists:
            raise TaskNotFound
        raise TaskConcealed if self._statements.conceal else TaskForbidden

    def _count(self, query: Query) -> int:
        statement = fill(COUNT, filters=filters_of(query))
        return int(self._run(statement, is_completed=query.is_completed, q=query.q)[0])

    def _rows(self, item: str, query: Query, start: Position | None) -> Rows:
        """Return an item for each task of the page, and one for the task after it when there is one."""
        column = COLUMNS[query.column]
        direction, beyond = ("DESC", "<") if query.descending else ("ASC", ">")
        statement = fill(
            LIST,
            item=item,
            filters=filters_of(query) + (fill(AFTER, column=column, beyond=beyond) if start else ""),
            order=f"{column} {direction}, id {direction}",
            limit=" LIMIT %(limit)s" if query.limit else "",
        )
        value, task_id = start or (None, None)
        values = {"is_completed": query.is_completed, "q": query.q, "limit": (query.limit or 0) + 1}
        return self._run(statement, **values, value=value, id=task_id, user_json=json.dumps(self.user_id))

    def _tag(self, query: Query, rows: Rows, total: int | None) -> str:
        """Return a digest of what the answer hangs on: who asks for what, and each task's id and version."""
        digest = sha256(repr((self.user_id, query, total, len(rows))).encode())
        # Both JSON texts of a task begin with its id and end with its version, on both databases.
        digest.update("".join([row[:45] + row[-30:] for row in rows[: query.limit]]).encode())
        return digest.hexdigest()[:32]

    def _next(self, query: Query, rows: Rows) -> str | None:
        if query.limit is None or len(rows) <= query.limit:
            return None
        last = json.loads(rows[query.limit - 1])
        return query.cursor_after(Position(last[query.column], last["id"]), self.user_id)

    def _run(self, statement: str, **values: Any) -> Rows:
        values["user_id"] = self.user_id
        return self._statements.run(statement, values)


def id_of(task: str) -> str:
    """Return the id of a task given as JSON: the first value in it."""
    return task.split('"', 4)[3]


def version_of(task: str) -> str:
    """Return the version of a task given as JSON: its updated_at, which comes last."""
    return task[-29:-2]


def array_of(tasks: list[str]) -> list[str]:
    """Return the tasks as a JSON array in pieces.

    Each piece is encoded and sent by itself, and what it is made of let go: else 10,000 tasks of the greatest size,
    82 MB, would take 470 MB in place of 250.
    """
    pieces, opening = [], "["
    while True:
        piece = ",".join(tasks[:TASKS_IN_A_PIECE])
        del tasks[:TASKS_IN_A_PIECE]
        pieces.append(f"{opening}{piece}{'' if tasks else ']'}")
        if not tasks:
            return pieces
        opening = ","


def filters_of(query: Query) -> str:
    return (IS_COMPLETED if query.is_completed is not None else "") + (CONTAINS if query.q else "")


def fill(template: str, **parts: str) -> str:
    """Put `parts` in their places in a statement and leave the other places for later."""
    for name, part in parts.items():
        template = template.replace("{" + name + "}", part)
    return template


class Statements:
    """The statements above in the words of the database in use, and the settings that they depend on."""

    def __init__(self, database: Database, *, max_tasks: int, conceal: bool) -> None:
        self.database = database
        self.conceal = conceal
        self.separators = (",", ":") if database.is_sqlite else (", ", " : ")  # as the database writes JSON
        self._dialect = {
            **(SQLITE if database.is_sqlite else POSTGRESQL),
            "once": "",
            "room": ROOM.format(max_tasks=max_tasks) if max_tasks else "",
            "full": f"LIMIT 1 OFFSET {max_tasks - 1}" if max_tasks else "LIMIT 0",
        }
        self._sql: dict[str, str] = {}

    def sql(self, statement: str) -> str:
        """Return the statement as the driver takes it; each is made once, and there are some hundred at most."""
        if statement not in self._sql:
            sql = statement.format_map(self._dialect)
            self._sql[statement] = re.sub(r"%\((\w+)\)s", r":\1", sql) if self.database.is_sqlite else sql
        return self._sql[statement]

    def run(self, statement: str, values: dict[str, Any]) -> list[str]:
        """Run one statement and return the first column of its rows. Raises DatabaseError."""
        if self.database.is_sqlite:
            values["now"] = datetime.now(UTC).strftime(RFC3339)
        repeatable = statement in REPEATABLE_WRITES or "RETURNING" not in statement
        began = time.perf_counter()
        try:
            return self.database.run(self.sql(statement), values, repeatable=repeatable)
        finally:
            add_database_time(began)


def init_app(app: Flask) -> None:
    """Bind the statements to the application's database."""
    with app.app_context():
        database = Database(db.engines["autocommit"], app.config["DB_STATEMENT_TIMEOUT"])
    app.extensions["ownership"] = Statements(
        database,
        max_tasks=app.config["MAX_TASKS_PER_USER"],
        conceal=app.config["CONCEAL_FOREIGN_TASKS"],
    )
