"""The statements that an application sends to its database."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask

from todo_api.database import Database, Statement


def database_of(app: Flask) -> Database:
    database: Database = app.extensions["database"]
    return database


def apart(app: Flask, timeout: float = 10) -> Database:
    """Return a Database on the application's pool that may be used outside of requests: it times nothing."""
    return Database(database_of(app).connections, timeout)


@contextmanager
def recorded(app: Flask) -> Iterator[list[tuple[str, Mapping[str, Any]]]]:
    """Collect the statements that the application runs, as SQL, and their values."""
    seen: list[tuple[str, Mapping[str, Any]]] = []
    database = database_of(app)

    def noting(run: Callable[[Statement, Mapping[str, Any]], Any]) -> Any:
        def noted(statement: Statement, values: Mapping[str, Any]) -> Any:
            seen.append((database.compiled(statement).sql, values))
            return run(statement, values)

        return noted

    with pytest.MonkeyPatch.context() as patch:
        for name in ("fetch", "execute"):
            patch.setattr(database, name, noting(getattr(database, name)))
        yield seen
