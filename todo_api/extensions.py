"""The Flask class and its extensions, which create_app() binds to the application."""

import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

from flask import Flask, Request
from flask_jwt_extended import JWTManager
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import MetaData, Pool, event
from sqlalchemy.orm import DeclarativeBase
from werkzeug.local import LocalProxy
from werkzeug.routing import MapAdapter

from todo_api.responses import Response

MIGRATIONS = Path(__file__).parents[1] / "migrations"


class TaskAPI(Flask):
    """Flask without asynchronous views, and without routes that depend on the host of the request."""

    response_class = Response
    wsgi_app: Any  # middleware is set here

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return the view itself: looking whether it is asynchronous takes 4 µs of each request."""
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Return what finds the route: only the path and the method decide. Looking at the host takes 6 µs."""
        if request is None:
            return super().create_url_adapter(None)
        path = request.environ["PATH_INFO"].encode("latin-1").decode(errors="replace")
        return self.url_map.bind("", path_info=path, default_method=request.method)


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={  # the same on every database
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )


db = SQLAlchemy(model_class=Base)
jwt = JWTManager()


def bind_migrate(app: Flask) -> None:
    """Bind Flask-Migrate to the application once `flask db` asks for it: its Alembic takes 4 MiB of each worker."""

    def bound() -> Flask:
        from flask_migrate import Migrate

        Migrate(app, db, MIGRATIONS)  # replaces what is set below
        return app

    app.extensions["migrate"] = LocalProxy(lambda: bound().extensions["migrate"])
    app.cli.commands["db"] = cast(Any, LocalProxy(lambda: bound().cli.commands["db"]))


@event.listens_for(Pool, "connect")
def prepare_sqlite(connection: object, _record: object) -> None:
    """Make SQLite enforce foreign keys and read during a write, and add the functions that tasks/dialects.py uses."""
    if isinstance(connection, sqlite3.Connection):
        connection.executescript("PRAGMA foreign_keys = ON; PRAGMA journal_mode = WAL")
        connection.create_function("next_version", 2, next_version, deterministic=True)
        connection.create_function("lower_case", 1, lower_case, deterministic=True)


def next_version(version: str, now: str) -> str:
    """Return the later of `now` and 1 µs after `version`, all as RFC 3339 text."""
    later = datetime.fromisoformat(version) + timedelta(microseconds=1)
    return max(now, later.isoformat(timespec="microseconds").replace("+00:00", "Z"))


def lower_case(text: str | None) -> str | None:
    """Return the text in lower case, code point by code point. SQLite's lower() changes ASCII letters only."""
    return None if text is None else "".join(map(str.lower, text.replace("İ", "i")))  # the only one that becomes two
