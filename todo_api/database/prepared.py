"""Statements in SQLAlchemy Core, compiled once for the database in use and prepared once on each connection.

PostgreSQL parses and plans a prepared statement once, which saves 60 µs of a read and 115 of a creation. Only the
server process that prepared a statement knows it. Behind a transaction pooler each statement may reach another process.
Once one does not know a statement, or knows it already, that connection sends plain text (`disable_if_stale`).
"""

import re
from hashlib import sha256
from typing import Any, NamedTuple

from sqlalchemy import ClauseElement, Dialect

PLACEHOLDER = re.compile(r"%\((\w+)\)s")
WRITE = re.compile("INSERT|UPDATE|DELETE")
PREPARED = "prepared"  # key of `connection.info`: the names of prepared statements, None where preparing failed


class Statement:
    """A Core statement whose values are all named parameters.

    `on_sqlite`: what SQLite runs instead, in one transaction, as it cannot write in a CTE; the last one has the result.
    `repeatable`: running it twice is the same as once, so it may be run again after a lost connection.
    `max_seconds`: a time limit of its own on PostgreSQL, if it is shorter than the general one.
    `is_common`: it is prepared. Each prepared statement takes memory of the server on each connection.
    """

    def __init__(
        self,
        core: ClauseElement,
        *on_sqlite: ClauseElement,
        repeatable: bool = False,
        max_seconds: float = float("inf"),
        is_common: bool = True,
    ) -> None:
        self.core = core
        self.on_sqlite = on_sqlite
        self.repeatable = repeatable
        self.max_seconds = max_seconds
        self.is_common = is_common


class PreparedStatement(NamedTuple):
    """A statement compiled for one dialect: `steps` as plain SQL, the rest for PostgreSQL."""

    steps: tuple[str, ...]
    name: str
    declaration: str
    call: str
    limited_sql: str
    is_common: bool
    writes: bool

    @classmethod
    def compile(cls, statement: Statement, dialect: Dialect, timeout: float) -> "PreparedStatement":
        """Return the statement as the driver takes it; the same text gets the same name."""
        parts = statement.on_sqlite if statement.on_sqlite and dialect.name == "sqlite" else (statement.core,)
        steps = tuple(str(part.compile(dialect=dialect)) for part in parts)
        sql = steps[-1]
        names = list(dict.fromkeys(PLACEHOLDER.findall(sql)))
        name = f"todo_{sha256(sql.encode()).hexdigest()[:16]}"
        declared = PLACEHOLDER.sub(lambda place: f"${names.index(place[1]) + 1}", sql)
        arguments = f"({', '.join(f'%({name})s' for name in names)})" if names else ""
        # Sent in the same message, so it costs no round trip, and a pooler in transaction mode keeps nothing of it.
        limit = f"SET LOCAL statement_timeout = {int(min(timeout, statement.max_seconds) * 1000)}; "
        declaration, call = f"{limit}PREPARE {name} AS {declared}", f"{limit}EXECUTE {name}{arguments}"
        writes = any(WRITE.search(step) for step in steps)
        return cls(steps, name, declaration, call, limit + sql, statement.is_common, writes)

    def prepare(self, cursor: Any, info: dict[Any, Any]) -> str:
        """Return what to execute on a psycopg2 cursor; `info` is the pool's dictionary of its connection."""
        names = info.setdefault(PREPARED, set())
        if names is None or not self.is_common:
            return self.limited_sql
        if self.name not in names:
            cursor.execute(self.declaration)  # it may wait for a lock, too
            names.add(self.name)
        return self.call
