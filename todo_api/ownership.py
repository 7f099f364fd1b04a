"""The owner-scoped query helper: the only door to tasks.

`OwnedTasks` is made from a user id and cannot be made without one; every statement names that owner. The single
exception looks whether an id exists at all, after the owner's own look-up found nothing, and returns no column of the
row. Tasks come out as the JSON text that the API answers with: the database writes it, nothing is parsed on the way.
"""

import re
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from itertools import combinations
from typing import Any

from flask import Flask, current_app
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, IntegrityError

from todo_api.extensions import db
from todo_api.models import RFC3339, TaskId, new_task_id
from todo_api.watchdog import Watchdog

UUID = re.compile("[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")
AT_ONCE_SECONDS = 1  # a connection that died earlier shows it at once; one that hung is not worth a second wait
FOREIGN_KEY_VIOLATION = "23503"
CHANGEABLE = ("description", "is_completed", "title")

# What the two databases say differently: a task as JSON, the time now, an id as a value, the next version of a task.
POSTGRESQL = {
    "task": """json_build_object('id', id, 'user_id', user_id, 'title', title, 'description', description,
        'is_completed', is_completed,
        'created_at', to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'updated_at', to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))::text""",
    "now": "now()",
    "id": "%(id)s::uuid",
    "next_version": "greatest(now(), updated_at + interval '1 microsecond')",
}
SQLITE = {
    "task": """json_object('id', id, 'user_id', user_id, 'title', title, 'description', description,
        'is_completed', json(CASE WHEN is_completed THEN 'true' ELSE 'false' END),
        'created_at', created_at, 'updated_at', updated_at)""",
    "now": "%(now)s",
    "id": "%(id)s",
    "next_version": "next_version(updated_at, %(now)s)",
}

LIST = "SELECT {task} FROM tasks WHERE user_id = %(user_id)s ORDER BY created_at DESC, id DESC"
GET = "SELECT {task} FROM tasks WHERE user_id = %(user_id)s AND id = %(id)s"
EXISTS = "SELECT 1 FROM tasks WHERE id = %(id)s"
CREATE = """INSERT INTO tasks (user_id, id, title, description, is_completed, created_at, updated_at)
    SELECT users.id, {id}, %(title)s, %(description)s, %(is_completed)s, {now}, {now}
    FROM users WHERE users.id = %(user_id)s {room} RETURNING {task}"""
ROOM = "AND (SELECT count(*) FROM tasks WHERE user_id = %(user_id)s) < {max_tasks}"
FULL = "SELECT id FROM tasks WHERE user_id = %(user_id)s {full}"
CREATE_USER = "INSERT INTO users (id, created_at) VALUES (%(user_id)s, {now}) ON CONFLICT DO NOTHING RETURNING id"
UPDATE = """UPDATE tasks SET {changes}, updated_at = {next_version}
    WHERE user_id = %(user_id)s AND id = %(id)s RETURNING {task}"""
DELETE = "DELETE FROM tasks WHERE user_id = %(user_id)s AND id = %(id)s RETURNING id"
DELETE_USER = "DELETE FROM users WHERE id = %(user_id)s RETURNING id"

READS = {LIST, GET, EXISTS, FULL}


class TaskNotFound(LookupError):
    """There is no such task, or it is concealed."""


class TaskForbidden(PermissionError):
    """The task belongs to somebody else."""


class TaskLimitReached(ValueError):
    """The user has as many tasks as a user may have."""


class OwnedTasks:
    """The tasks of one user."""

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self._database: Database = current_app.extensions["ownership"]

    def list(self) -> str:
        """Return all tasks as a JSON array, newest first."""
        return f"[{','.join(self._run(LIST))}]"

    def create(self, title: str, description: str | None = None, is_completed: bool = False) -> tuple[TaskId, str]:
        """Store a new task; return its id and its JSON. Raises TaskLimitReached.

        n simultaneous creations can pass the limit by n - 1 at most.
        """
        task_id = new_task_id()
        task = {"id": task_id, "title": title, "description": description, "is_completed": is_completed}
        while not (created := self._run(CREATE, **task)):
            known = not self._run(CREATE_USER)  # else this is the user's first task
            if known and self._run(FULL):
                raise TaskLimitReached
        return task_id, created[0]

    def get(self, task_id: str) -> str:
        """Return the task as JSON. Raises TaskNotFound, TaskForbidden."""
        return self._own(GET, task_id)

    def update(self, task_id: str, changes: Mapping[str, Any]) -> str:
        """Change the named fields, none or more; return the task as JSON. Raises TaskNotFound, TaskForbidden."""
        if not changes:
            return self.get(task_id)
        return self._own(update_of(changes), task_id, **changes)

    def delete(self, task_id: str) -> None:
        """Delete the task. Raises TaskNotFound, TaskForbidden."""
        self._own(DELETE, task_id)

    def delete_user(self) -> bool:
        """Delete the user and all their tasks; return whether there was such a user."""
        return bool(self._run(DELETE_USER))

    def _own(self, statement: str, task_id: str, **values: Any) -> str:
        """Run a statement on the user's task; when there is none, tell a missing task from a foreign one."""
        if not UUID.fullmatch(task_id):
            raise TaskNotFound
        values["id"] = task_id.lower()
        found = self._run(statement, **values)
        if found:
            return found[0]
        exists = self._database.run(EXISTS, {"id": values["id"]})
        raise TaskForbidden if exists and not self._database.conceal else TaskNotFound

    def _run(self, statement: str, **values: Any) -> Sequence[str]:
        values["user_id"] = self.user_id
        return self._database.run(statement, values)


def update_of(fields: Mapping[str, Any] | tuple[str, ...]) -> str:
    """Return the statement that changes these fields."""
    return UPDATE.replace("{changes}", ", ".join(f"{name} = %({name})s" for name in sorted(fields)))


class Database:
    """Runs the statements above on the database in use, each as a transaction of its own."""

    def __init__(self, engine: Engine, *, max_tasks: int, conceal: bool, timeout_seconds: int) -> None:
        self.conceal = conceal
        self._engine = engine
        self._watchdog = Watchdog(timeout_seconds + 1)  # after the server's own limit
        self._sqlite = engine.dialect.name == "sqlite"
        updates = [update_of(fields) for size in (1, 2, 3) for fields in combinations(CHANGEABLE, size)]
        # A limit on the statement alone, in the same message: no round trip, and a pooler in transaction mode keeps
        # nothing of it. SQLite waits for its lock as long as the connection was told to.
        prefix = "" if self._sqlite else f"SET LOCAL statement_timeout = {timeout_seconds * 1000}; "
        dialect = {
            **(SQLITE if self._sqlite else POSTGRESQL),
            "room": ROOM.format(max_tasks=max_tasks) if max_tasks else "",
            "full": f"LIMIT 1 OFFSET {max_tasks - 1}" if max_tasks else "LIMIT 0",
        }
        self._sql = {
            statement: prefix + statement.format_map(dialect)
            for statement in (LIST, GET, EXISTS, CREATE, FULL, CREATE_USER, DELETE, DELETE_USER, *updates)
        }
        if self._sqlite:
            self._sql = {key: re.sub(r"%\((\w+)\)s", r":\1", sql) for key, sql in self._sql.items()}

    def run(self, statement: str, values: dict[str, Any]) -> Sequence[str]:
        """Run one statement and return the first column of its rows.

        A look is repeated once when its connection turns out to be dead: the pool drops them all at the first.
        """
        began = time.monotonic()
        try:
            return self._execute(statement, values)
        except IntegrityError as error:
            if statement == CREATE and getattr(error.orig, "pgcode", None) == FOREIGN_KEY_VIOLATION:
                return []  # the user was deleted in this very moment
            raise
        except DBAPIError as error:
            dead = error.connection_invalidated and time.monotonic() - began < AT_ONCE_SECONDS
            if not (dead and statement in READS):
                raise
        return self._execute(statement, values)

    def _execute(self, statement: str, values: dict[str, Any]) -> Sequence[str]:
        if self._sqlite:
            values["now"] = datetime.now(UTC).strftime(RFC3339)
        with self._engine.connect() as connection:
            wire = connection.connection.dbapi_connection
            with nullcontext() if self._sqlite else self._watchdog.over(wire):
                return [row[0] for row in connection.exec_driver_sql(self._sql[statement], values)]


def init_app(app: Flask) -> None:
    """Bind the statements to the application's database."""
    with app.app_context():
        engine = db.engines["autocommit"]
    app.extensions["ownership"] = Database(
        engine,
        max_tasks=app.config["MAX_TASKS_PER_USER"],
        conceal=app.config["CONCEAL_FOREIGN_TASKS"],
        timeout_seconds=app.config["DB_STATEMENT_TIMEOUT"],
    )
