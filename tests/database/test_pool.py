"""The pool of connections, used without the proxies that SQLAlchemy puts around them."""

import time
from itertools import accumulate
from typing import Any

import pytest
import sqlalchemy
from flask import Flask
from sqlalchemy import event, make_url

from tests.conftest import Caller, MakeApp, assert_error
from tests.support.databases import rows_of
from tests.support.threads import at_once
from todo_api.database.execution import Database


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    """An application that these tests may change."""
    return make_app()


def database_of(app: Flask) -> Database:
    found: Database = app.extensions["ownership"].database
    return found


def pool_of(app: Flask) -> Any:
    return database_of(app)._engine.pool


def test_the_methods_called_are_those_of_this_version() -> None:
    """Private ones: look at what `_do_get`, `get_connection` and `_do_return_conn` do before another is named here."""
    assert sqlalchemy.__version__ == "2.1.9"


def test_a_connection_is_given_back_whatever_became_of_its_statement(app: Flask) -> None:
    alice = Caller(app.test_client(), "alice")
    alice.create()
    alice.post("/api/tasks", json={"title": ""})
    database_of(app).run("SELECT 1", {}, repeatable=True)
    with pytest.raises(Exception, match="nowhere"):
        database_of(app).run("SELECT 1 FROM nowhere", {}, repeatable=True)
    assert (pool_of(app).checkedout(), pool_of(app).checkedin()) == (0, 1)
    assert database_of(app).waiting() == 0


def test_a_connection_that_cannot_be_made_takes_no_place(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("todo_api.database.execution.PATIENCE_SECONDS", 0.1)
    app = make_app(
        ENVIRONMENT="production",
        DATABASE_URL="postgresql://nobody@127.0.0.1:1/none",
        DB_POOL_SIZE="1",
        DB_MAX_OVERFLOW="0",
        DB_POOL_TIMEOUT="1",
    )
    for _ in range(3):
        assert_error(Caller(app.test_client(), "alice").get("/api/tasks"), 503, "DATABASE_UNAVAILABLE")
    assert pool_of(app).checkedout() == 0


def test_no_more_connections_than_allowed_are_made_and_each_request_gets_its_turn(make_app: MakeApp) -> None:
    app = make_app(DB_POOL_SIZE="1", DB_MAX_OVERFLOW="1", DB_POOL_TIMEOUT="30")
    changes: list[int] = []
    event.listen(pool_of(app), "connect", lambda *_: changes.append(1))
    event.listen(pool_of(app), "close", lambda *_: changes.append(-1))
    statuses: list[int] = []

    def work() -> None:
        alice = Caller(app.test_client(), "alice")
        statuses.extend([alice.get("/api/tasks").status_code for _ in range(10)])

    at_once([work] * 8)
    assert statuses == [200] * 80
    assert changes
    assert max(accumulate(changes)) <= 2
    assert pool_of(app).checkedout() == 0


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_clock_that_is_set_back_after_a_loss_wears_out_no_connection(
    app: Flask, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def backend() -> int:
        """Return the process that serves the one connection of this application."""
        [process] = database_of(app).run("SELECT pg_backend_pid()", {}, repeatable=True)
        return int(process)

    def lose(idle_seconds: float, lost: int) -> None:
        """Let a statement meet the loss, or a look at a connection that has idled."""
        monkeypatch.setattr("todo_api.database.execution.IDLE_SECONDS", idle_seconds)
        rows_of(database_url, "SELECT pg_terminate_backend(:it, 5000)", it=lost)
        assert alice.get("/api/tasks").status_code == 200

    alice, true_time = Caller(app.test_client(), "alice"), time.time
    lose(60, backend())
    monkeypatch.setattr(time, "time", lambda: true_time() - 3600)
    lose(0, backend())
    before = backend()
    assert alice.get("/api/tasks").status_code == 200
    assert backend() == before


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_text_is_utf8_whatever_the_database_url_says(make_app: MakeApp, database_url: str) -> None:
    url = make_url(database_url).update_query_dict({"client_encoding": "latin1"}).render_as_string(False)
    alice = Caller(make_app(DATABASE_URL=url).test_client(), "alice")
    task = alice.create("naïve 🎉")
    assert task["title"] == "naïve 🎉"
    assert alice.get("/api/tasks").json == [task]


def test_an_old_connection_is_replaced(make_app: MakeApp) -> None:
    app = make_app(DB_POOL_RECYCLE="60")
    alice = Caller(app.test_client(), "alice")
    alice.create()
    entry = pool_of(app)._do_get()
    pool_of(app)._do_return_conn(entry)
    first = entry.dbapi_connection
    alice.get("/api/tasks")
    assert entry.dbapi_connection is first
    entry.starttime -= 61
    alice.get("/api/tasks")
    assert entry.dbapi_connection is not first
    assert pool_of(app).checkedin() == 1
