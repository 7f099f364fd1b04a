"""Access to an application's database layer, and a recorder of its statements."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask

from todo_api.database import Database, Statement


def database_of(app: Flask) -> Database:
    database: Database = app.extensions["database"]
    return database


def database_outside_requests(app: Flask, timeout: float = 10) -> Database:
    """Return a Database on the application's pool that works outside requests, as it records no times."""
    return Database(database_of(app).connections, timeout)


@contextmanager
def recorded(app: Flask) -> Iterator[list[tuple[str, Mapping[str, Any]]]]:
    """Collect the statements that the application runs, as SQL, and their values."""
    seen: list[tuple[str, Mapping[str, Any]]] = []
    database = database_of(app)

    def recorder(run: Callable[[Statement, Mapping[str, Any]], Any]) -> Any:
        def record(statement: Statement, values: Mapping[str, Any]) -> Any:
            seen.append(("; ".join(database.compiled(statement).steps), values))
            return run(statement, values)

        return record

    with pytest.MonkeyPatch.context() as patch:
        for name in ("fetch", "execute"):
            patch.setattr(database, name, recorder(getattr(database, name)))
        yield seen
