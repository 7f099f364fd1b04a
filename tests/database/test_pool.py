"""The connection pool."""

import time
from itertools import accumulate

import pytest
from flask import Flask
from sqlalchemy import event, make_url, text

from tests.conftest import Caller, MakeApp, assert_error
from tests.support.databases import rows_of
from tests.support.statements import database_of, database_outside_requests
from tests.support.threads import at_once
from todo_api.database import DatabaseError, Statement, connections, execution

ONE = Statement(text("SELECT 1"), repeatable=True)
MISSING_TABLE = Statement(text("SELECT 1 FROM nowhere"), repeatable=True)
BACKEND = Statement(text("SELECT pg_backend_pid()"), repeatable=True)
only_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    """An application that these tests may change."""
    return make_app()


def test_a_connection_is_returned_to_the_pool_after_success_and_failure(app: Flask) -> None:
    database = database_outside_requests(app)
    assert database.fetch(ONE, {}) == [(1,)]
    with pytest.raises(DatabaseError, match="nowhere"):
        database.fetch(MISSING_TABLE, {})
    assert (database.connections.in_use(), database.connections.pool.checkedin()) == (0, 1)
    assert database.connections.waiting() == 0


@pytest.mark.sqlite_only
def test_a_failed_connection_attempt_takes_no_place_in_the_pool(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "RETRY_WINDOW", 0.1)
    nowhere = {"ENVIRONMENT": "production", "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
    app = make_app(**nowhere, DB_POOL_SIZE="1", DB_MAX_OVERFLOW="0", DB_POOL_TIMEOUT="1")
    for _ in range(3):
        assert_error(Caller(app.test_client(), "alice").get("/api/tasks"), 503, "DATABASE_UNAVAILABLE")
    assert database_of(app).connections.in_use() == 0


@only_postgresql
def test_the_pool_never_exceeds_its_size_and_serves_all_threads(make_app: MakeApp) -> None:
    app = make_app(DB_POOL_SIZE="1", DB_MAX_OVERFLOW="1", DB_POOL_TIMEOUT="30")
    database = database_outside_requests(app)
    changes: list[int] = []
    event.listen(database.connections.pool, "connect", lambda *_: changes.append(1))
    event.listen(database.connections.pool, "close", lambda *_: changes.append(-1))
    at_once([lambda: [database.fetch(ONE, {}) for _ in range(10)]] * 8)
    assert changes
    assert max(accumulate(changes)) <= 2
    assert database.connections.in_use() == 0


@only_postgresql
def test_connections_are_kept_when_the_clock_is_set_back_after_a_loss(
    app: Flask, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = database_outside_requests(app)

    def backend() -> int:
        """Return the server process of the application's only connection."""
        [[process]] = database.fetch(BACKEND, {})
        return int(process)

    def lose(idle: float) -> None:
        """Lose the connection; it is noticed by the next statement, or by the check of an idle connection."""
        monkeypatch.setattr(connections, "IDLE", idle)
        lost = backend()
        assert rows_of(database_url, "SELECT pg_terminate_backend(:it, 5000)", it=lost) == [True]
        assert backend() != lost

    true_time = time.time
    lose(idle=60)
    monkeypatch.setattr(time, "time", lambda: true_time() - 3600)
    lose(idle=1e-9)
    assert backend() == backend()


@only_postgresql
def test_the_client_encoding_is_always_utf8(make_app: MakeApp, database_url: str) -> None:
    url = make_url(database_url).update_query_dict({"client_encoding": "latin1"}).render_as_string(False)
    alice = Caller(make_app(DATABASE_URL=url).test_client(), "alice")
    task = alice.create("naïve 🎉")
    assert task["title"] == "naïve 🎉"
    assert alice.get("/api/tasks").json == [task]


@only_postgresql
def test_old_connections_are_recycled(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    database = database_outside_requests(make_app(DB_POOL_RECYCLE="60"))
    first = database.fetch(BACKEND, {})
    assert database.fetch(BACKEND, {}) == first
    true_time = time.time
    monkeypatch.setattr(time, "time", lambda: true_time() + 61)
    assert database.fetch(BACKEND, {}) != first
    assert database.connections.pool.checkedin() == 1
