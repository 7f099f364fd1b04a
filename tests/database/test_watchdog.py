"""A database that hangs: it takes connections and statements, and answers nothing."""

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from tests.conftest import Caller, MakeApp, assert_error, dispose, environ_for
from tests.support import wires
from tests.support.programs import ROOT, environment, run
from tests.support.threads import wait_until
from tests.support.wires import Cutter, Freezer
from todo_api import create_app
from todo_api.database.execution import DatabaseUnavailable
from todo_api.database.watchdog import Watchdog

TERMINATE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"


@pytest.fixture
def freezer(databases: dict[str, str]) -> Iterator[Freezer]:
    freezer = Freezer(databases["postgresql"])
    yield freezer
    freezer.close()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_database_that_hangs_is_unavailable_in_time_and_does_well_again(
    freezer: Freezer, make_app: MakeApp, tmp_path: Path
) -> None:
    """`make_app` is asked for to begin with an empty database."""
    app = create_app(environ_for(freezer.url, DB_STATEMENT_TIMEOUT="1"), tmp_path)
    alice = Caller(app.test_client(), "alice")
    task = alice.create("Kept")
    requests = {"GET": {}, "PUT": {"json": {"title": "New"}}, "DELETE": {}}
    for method, more in requests.items():
        assert alice.get("/api/tasks").status_code == 200  # on a connection that works
        freezer.flowing.clear()
        began = time.monotonic()
        assert_error(alice(method, f"/api/tasks/{task['id']}", **more), 503, "DATABASE_UNAVAILABLE")
        assert 1.9 < time.monotonic() - began < 4
        freezer.flowing.set()
    assert alice.get("/api/tasks").status_code == 200
    dispose(app)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_while_a_database_hangs_one_request_waits_for_it_and_all_others_fail_at_once(
    freezer: Freezer, make_app: MakeApp, tmp_path: Path
) -> None:
    app = create_app(environ_for(f"{freezer.url}&connect_timeout=5", DB_STATEMENT_TIMEOUT="1"), tmp_path)
    alice = Caller(app.test_client(), "alice")
    task = alice.create("Kept")
    database = app.extensions["ownership"].database
    freezer.flowing.clear()
    assert_error(alice.delete(f"/api/tasks/{task['id']}"), 503, "DATABASE_UNAVAILABLE")
    with ThreadPoolExecutor(1) as thread:
        looking = thread.submit(Caller(app.test_client(), "alice").get, "/api/tasks")
        wait_until(database.waiting)
        told = "^TimeoutError: it is away, and another request looks whether it is back$"
        with pytest.raises(DatabaseUnavailable, match=told):
            database.run("SELECT 1", {}, repeatable=True)
        for _ in range(10):
            assert_error(alice.get("/api/tasks"), 503, "DATABASE_UNAVAILABLE")
        assert_error(alice.get("/health/ready"), 503, "NOT_READY")
        assert not looking.done()
        freezer.flowing.set()
        assert looking.result().status_code == 200
    assert alice.get("/api/tasks").status_code == 200
    dispose(app)


def terminates(cursor: Any) -> bool:
    """End the statements that wait for a lock; tell whether there was one."""
    cursor.execute(f"{TERMINATE} WHERE wait_event_type = 'Lock' AND datname = current_database()")
    return bool(cursor.fetchall())


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_connection_that_is_lost_late_is_no_sign_of_a_database_that_hangs(
    make_app: MakeApp, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app()
    alice = Caller(app.test_client(), "alice")
    task = alice.create("Kept")
    monkeypatch.setattr("todo_api.database.execution.PATIENCE_SECONDS", 0.1)
    with ThreadPoolExecutor(1) as thread, closing(psycopg2.connect(database_url)) as other, other.cursor() as cursor:
        cursor.execute("SELECT id FROM tasks FOR UPDATE")
        deleted = thread.submit(alice.delete, f"/api/tasks/{task['id']}")
        time.sleep(0.2)  # more than the patience
        wait_until(partial(terminates, cursor))
        assert_error(deleted.result(), 503, "DATABASE_UNAVAILABLE")
    with app.extensions["ownership"].database._looking:  # as if another request looked whether it is back
        assert alice.get("/api/tasks").status_code == 200


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_first_connection_that_is_lost_is_watched_no_more(
    databases: dict[str, str], make_app: MakeApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wires, "STATEMENT", b"pg_catalog.version")
    with closing(Cutter(databases["postgresql"])) as cutter:
        app = create_app(environ_for(cutter.url), tmp_path)
        alice = Caller(app.test_client(), "alice")
        cutter.plan.extend(["before"] * 3)
        assert alice.get("/api/tasks").status_code == 200
        assert not cutter.plan
        assert not app.extensions["ownership"].database._watchdog._waits
        dispose(app)


@pytest.mark.parametrize("question", [b"pg_catalog.version", b"pg_backend_pid"])
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_database_that_lets_in_and_then_hangs_is_unavailable_in_time(
    freezer: Freezer, make_app: MakeApp, tmp_path: Path, question: bytes
) -> None:
    """As a pooler does whose database hangs: SQLAlchemy's questions to the first connection have a limit, too."""
    app = create_app(environ_for(freezer.url, DB_STATEMENT_TIMEOUT="1"), tmp_path)
    alice = Caller(app.test_client(), "alice")
    freezer.last_words = question
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(alice.get, "/api/tasks")
        try:
            assert_error(answer.result(timeout=6), 503, "DATABASE_UNAVAILABLE")
        finally:
            freezer.flowing.set()
    assert not freezer.last_words
    assert alice.get("/api/tasks").status_code == 200
    dispose(app)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_the_watchdog_outlives_a_connection_that_the_driver_closed_first(database_url: str) -> None:
    watchdog = Watchdog(0.1)
    connection = psycopg2.connect(database_url)
    with watchdog.over(connection):
        connection.close()
        time.sleep(0.6)
    other = psycopg2.connect(database_url)
    with watchdog.over(other), closing(other), other.cursor() as cursor, pytest.raises(psycopg2.OperationalError):
        cursor.execute("SELECT pg_sleep(5)")


def test_a_program_ends_though_it_is_watched() -> None:
    """As `flask user-delete` does; a thread that went on would hold it for ever."""
    program = "from todo_api.database.watchdog import Watchdog; Watchdog(60).over(None).__enter__()"
    assert run(sys.executable, "-c", program, cwd=ROOT, env=environment(), seconds=20).returncode == 0
