"""A database that hangs: it accepts connections and statements, but does not answer."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from flask import Flask
from sqlalchemy import text

from tests.conftest import Caller, MakeApp, assert_error, dispose, environ_for, in_process
from tests.support.databases import engine_of, rows_of
from tests.support.proxies import FreezingProxy, SwallowingProxy
from tests.support.statements import database_of
from tests.support.threads import at_once, wait_until
from todo_api import create_app
from todo_api.database import Statement, execution, watchdog
from todo_api.database.watchdog import Watchdog

WAITING = "FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
LIMIT, WINDOW = 0.3, 0.25

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@pytest.fixture
def freezer(database_url: str) -> Iterator[FreezingProxy]:
    freezer = FreezingProxy(database_url)
    yield freezer
    freezer.close()


@pytest.fixture
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten all waits."""
    monkeypatch.setattr(execution, "Watchdog", lambda _: Watchdog(LIMIT))
    monkeypatch.setattr(execution, "RETRY_WINDOW", WINDOW)
    monkeypatch.setattr(watchdog, "TICK", 0.05)


def application(freezer: FreezingProxy, instance: Path) -> Flask:
    """Make an application that connects through the freezer."""
    url = f"{freezer.url}&connect_timeout=5"
    return create_app(environ_for(url, DB_STATEMENT_TIMEOUT="1", READY_INTERVAL="1"), instance)


@pytest.fixture
def app(freezer: FreezingProxy, short_timeouts: None, tmp_path: Path) -> Iterator[Flask]:
    app = application(freezer, tmp_path)
    yield app
    dispose(app)


def test_a_statement_fails_one_second_after_the_servers_own_limit(freezer: FreezingProxy, tmp_path: Path) -> None:
    app = application(freezer, tmp_path)
    alice = Caller(app.test_client(), "alice")
    alice.create()
    freezer.is_open.clear()
    began = time.monotonic()
    assert_error(alice.get("/api/tasks"), 503, "DATABASE_UNAVAILABLE")
    assert 1.9 < time.monotonic() - began < 4
    dispose(app)


def test_requests_succeed_again_once_the_database_answers(freezer: FreezingProxy, app: Flask, alice: Caller) -> None:
    path = f"/api/tasks/{alice.create('Kept')['id']}"
    requests: dict[str, Any] = {"GET": {}, "PUT": {"json": {"title": "New"}}, "DELETE": {}}
    for method, more in requests.items():
        assert alice.get("/api/tasks").status_code == 200  # on a connection that works
        freezer.is_open.clear()
        assert_error(alice(method, path, **more), 503, "DATABASE_UNAVAILABLE")
        freezer.is_open.set()
    assert alice.get("/api/tasks").status_code == 200


def test_while_it_hangs_one_request_probes_it_and_all_others_fail_at_once(
    freezer: FreezingProxy, app: Flask, alice: Caller
) -> None:
    path = f"/api/tasks/{alice.create('Kept')['id']}"
    freezer.is_open.clear()
    assert_error(alice.delete(path), 503, "DATABASE_UNAVAILABLE")
    with ThreadPoolExecutor(1) as thread:
        probing = thread.submit(Caller(app.test_client(), "alice").get, "/api/tasks")
        wait_until(database_of(app).connections.waiting)
        for _ in range(10):
            assert_error(alice.get("/api/tasks"), 503, "DATABASE_UNAVAILABLE")
        assert_error(alice.get("/health/ready"), 503, "NOT_READY")
        assert not probing.done()
        freezer.is_open.set()
        assert probing.result().status_code == 200
    assert alice.get("/api/tasks").status_code == 200


@pytest.fixture
def swallower(database_url: str) -> Iterator[SwallowingProxy]:
    swallower = SwallowingProxy(database_url)
    yield swallower
    swallower.close()


@pytest.mark.usefixtures("short_timeouts")
def test_reads_go_on_while_writes_get_no_answer(
    swallower: SwallowingProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while commits wait for a synchronous standby that is gone."""
    app = in_process(create_app(environ_for(swallower.url), tmp_path))
    alice = Caller(app.test_client(), "alice")
    path = f"/api/tasks/{alice.create('Kept')['id']}"
    change = partial(alice.patch, path, json={"title": "New"})
    assert change().status_code == 200
    swallower.swallows = True
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(change)

        def read() -> set[int]:
            statuses = {alice.get(path).status_code}
            while not waiting.done() or time.monotonic() < until:
                statuses.add(alice.get(path).status_code)
            return statuses

        until = time.monotonic() + 2 * LIMIT
        assert set().union(*at_once([read] * 4)) == {200}  # none has to probe the database
        assert_error(waiting.result(), 503, "DATABASE_UNAVAILABLE")
        time.sleep(WINDOW)
        probing = thread.submit(change)
        wait_until(lambda: swallower.swallowed == 2)
        assert_error(change(), 503, "DATABASE_UNAVAILABLE")
        assert alice.get(path).status_code == 200
        assert app.test_client().get("/health/ready").status_code == 200
        assert_error(probing.result(), 503, "DATABASE_UNAVAILABLE")
    with monkeypatch.context() as patch:
        patch.setattr(execution, "WAITING_COMMITS", Statement(text("SELECT 1"), repeatable=True))
        assert_error(change(), 503, "DATABASE_UNAVAILABLE")
    assert swallower.swallowed == 2  # no other write was sent
    swallower.swallows = False
    assert change().status_code == 200
    dispose(app)


def test_the_first_query_on_a_connection_has_a_time_limit(freezer: FreezingProxy, app: Flask, alice: Caller) -> None:
    """A pooler accepts connections while its database hangs."""
    freezer.freeze_before = b"PREPARE"
    assert_error(alice.get("/api/tasks"), 503, "DATABASE_UNAVAILABLE")
    freezer.is_open.set()
    assert not freezer.freeze_before
    assert alice.get("/api/tasks").status_code == 200


@pytest.mark.one_server
def test_a_connection_lost_after_a_long_statement_is_not_an_outage(
    make_app: MakeApp, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests still run concurrently: none has to probe the database first."""
    monkeypatch.setattr(execution, "RETRY_WINDOW", WINDOW)
    app = make_app()
    alice = Caller(app.test_client(), "alice")
    path = f"/api/tasks/{alice.create('Kept')['id']}"
    with ThreadPoolExecutor(1) as thread, engine_of(database_url) as engine, engine.begin() as locker:
        locker.execute(text("SELECT id FROM tasks FOR UPDATE"))
        deleted = thread.submit(alice.delete, path)
        time.sleep(2 * WINDOW)
        wait_until(lambda: rows_of(database_url, f"SELECT pg_terminate_backend(pid) {WAITING}"))
        assert_error(deleted.result(), 503, "DATABASE_UNAVAILABLE")
        changed = thread.submit(alice.patch, path, json={"title": "New"})
        wait_until(lambda: rows_of(database_url, f"SELECT pid {WAITING}"))
        assert Caller(app.test_client(), "alice").get("/api/tasks").status_code == 200
        locker.rollback()
        assert changed.result().status_code == 200


def test_the_watchdog_survives_a_connection_that_was_closed_already(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "TICK", 0.05)
    dog = Watchdog(0.1)
    connection = psycopg2.connect(database_url)
    dog.watch(connection)
    connection.close()
    time.sleep(0.3)
    assert dog.release(connection)
    other = psycopg2.connect(database_url)
    dog.watch(other)
    with closing(other), other.cursor() as cursor, pytest.raises(psycopg2.OperationalError):
        cursor.execute("SELECT pg_sleep(5)")
    assert dog.release(other)


def test_the_watchdog_leaves_finished_statements_alone(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "TICK", 0.05)
    dog = Watchdog(0.1)
    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        dog.watch(connection)
        with suppress(psycopg2.ProgrammingError):
            cursor.execute("SELECT nothing")
        assert not dog.release(connection)
        time.sleep(0.3)
        connection.rollback()
        cursor.execute("SELECT 1")
    # Otherwise the thread would keep commands such as `flask user-delete` from ending.
    assert {thread.daemon for thread in threading.enumerate() if thread.name == "watchdog"} == {True}
