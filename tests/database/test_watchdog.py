"""A database that hangs: it accepts connections and statements, but does not answer."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import psycopg2
import pytest
from flask import Flask
from sqlalchemy import text

from tests.conftest import Caller, MakeApp, assert_error, dispose, environ_for, in_process
from tests.support.clock import replace_clock
from tests.support.databases import engine_of, rows_of
from tests.support.proxies import FreezingProxy, SwallowingProxy
from tests.support.statements import database_of
from tests.support.threads import at_once, wait_until
from todo_api import create_app
from todo_api.database import Statement, execution, watchdog
from todo_api.database.watchdog import Watchdog

WAITING = "FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
SHORT, LONG = 0.5, 60.0  # limits of a statement that gets no answer, and of one that does
WINDOW = 0.25  # shorter than SHORT: a statement that got no answer is not run again

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@pytest.fixture
def freezer(database_url: str) -> Iterator[FreezingProxy]:
    freezer = FreezingProxy(database_url)
    yield freezer
    freezer.close()


@pytest.fixture
def dog(monkeypatch: pytest.MonkeyPatch) -> Watchdog:
    """Shorten all waits but the limit of a statement: tests set it before those that get no answer."""
    dog = Watchdog(LONG)
    monkeypatch.setattr(execution, "Watchdog", lambda _: dog)
    monkeypatch.setattr(execution, "RETRY_WINDOW", WINDOW)
    monkeypatch.setattr(watchdog, "TICK", 0.05)
    return dog


def application(freezer: FreezingProxy, instance: Path, **settings: str) -> Flask:
    """Make an application that connects through the freezer."""
    return create_app(environ_for(freezer.url, READY_INTERVAL="1", **settings), instance)


@pytest.fixture
def app(freezer: FreezingProxy, dog: Watchdog, tmp_path: Path) -> Iterator[Flask]:
    app = application(freezer, tmp_path)
    yield app
    dispose(app)


def test_a_statement_fails_one_second_after_the_servers_own_limit(
    freezer: FreezingProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Mock(side_effect=Watchdog)
    monkeypatch.setattr(execution, "Watchdog", made)
    app = application(freezer, tmp_path, DB_STATEMENT_TIMEOUT="1")
    alice = Caller(app.test_client(), "alice")
    wait_until(lambda: alice.get("/api/tasks").status_code == 200)
    freezer.is_open.clear()
    began = time.monotonic()
    assert_error(alice.get("/api/tasks"), 503, "DATABASE_UNAVAILABLE")
    assert 1.9 < time.monotonic() - began < 5
    made.assert_called_once_with(2)
    dispose(app)


def test_requests_succeed_again_once_the_database_answers(
    freezer: FreezingProxy, dog: Watchdog, app: Flask, alice: Caller
) -> None:
    path = f"/api/tasks/{alice.create('Kept')['id']}"
    requests: dict[str, Any] = {"GET": {}, "PUT": {"json": {"title": "New"}}, "DELETE": {}}
    for method, more in requests.items():
        assert alice.get("/api/tasks").status_code == 200  # on a connection that works
        freezer.is_open.clear()
        dog.timeout = SHORT
        assert_error(alice(method, path, **more), 503, "DATABASE_UNAVAILABLE")
        dog.timeout = LONG
        freezer.is_open.set()
    assert alice.get("/api/tasks").status_code == 200


def test_while_it_hangs_one_request_probes_it_and_all_others_fail_at_once(
    freezer: FreezingProxy, dog: Watchdog, app: Flask, alice: Caller
) -> None:
    path = f"/api/tasks/{alice.create('Kept')['id']}"
    freezer.is_open.clear()
    dog.timeout = SHORT
    assert_error(alice.delete(path), 503, "DATABASE_UNAVAILABLE")
    dog.timeout = LONG
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


def test_reads_go_on_while_writes_get_no_answer(
    swallower: SwallowingProxy, dog: Watchdog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while commits wait for a synchronous standby that is gone."""
    app = in_process(create_app(environ_for(swallower.url), tmp_path))
    alice = Caller(app.test_client(), "alice")
    path = f"/api/tasks/{alice.create('Kept')['id']}"
    change = partial(alice.patch, path, json={"title": "New"})

    def statuses_of_reads() -> set[int]:
        return {answer.status_code for answer in at_once([lambda: alice.get(path)] * 8)}

    assert change().status_code == 200
    swallower.swallows = True
    with ThreadPoolExecutor(1) as thread:
        dog.timeout = 10 * SHORT
        waiting = thread.submit(change)
        wait_until(lambda: swallower.swallowed == 1)
        dog.timeout = LONG
        assert statuses_of_reads() == {200}
        assert_error(waiting.result(), 503, "DATABASE_UNAVAILABLE")
        assert statuses_of_reads() == {200}  # none has to probe the database
        probing = thread.submit(change)
        wait_until(lambda: swallower.swallowed == 2)
        assert_error(change(), 503, "DATABASE_UNAVAILABLE")
        assert statuses_of_reads() == {200}
        assert app.test_client().get("/health/ready").status_code == 200
        assert not probing.done()
        swallower.close()
        assert_error(probing.result(), 503, "DATABASE_UNAVAILABLE")
    swallower.listen()
    with monkeypatch.context() as patch:
        patch.setattr(execution, "WAITING_COMMITS", Statement(text("SELECT 1"), repeatable=True))
        assert_error(change(), 503, "DATABASE_UNAVAILABLE")
    assert swallower.swallowed == 2  # no other write was sent
    swallower.swallows = False
    assert change().status_code == 200
    dispose(app)


def test_the_first_query_on_a_connection_has_a_time_limit(
    freezer: FreezingProxy, dog: Watchdog, app: Flask, alice: Caller
) -> None:
    """A pooler accepts connections while its database hangs."""
    freezer.freeze_before = b"PREPARE"
    dog.timeout = SHORT
    assert_error(alice.get("/api/tasks"), 503, "DATABASE_UNAVAILABLE")
    dog.timeout = LONG
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
    for _ in range(6):  # the watchdog gets its turn even if the process stalls
        time.sleep(0.05)
    assert dog.release(connection)
    other = psycopg2.connect(database_url)
    dog.watch(other)
    with closing(other), other.cursor() as cursor, pytest.raises(psycopg2.OperationalError):
        cursor.execute("SELECT pg_sleep(5)")
    assert dog.release(other)


def test_the_watchdog_leaves_finished_statements_alone(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "TICK", 0.05)
    clock = replace_clock(monkeypatch, watchdog)
    dog = Watchdog(LONG)
    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        dog.watch(connection)
        with suppress(psycopg2.ProgrammingError):
            cursor.execute("SELECT nothing")
        assert not dog.release(connection)
        clock.ahead = 2 * LONG
        time.sleep(0.3)
        connection.rollback()
        cursor.execute("SELECT 1")
    # Otherwise the thread would keep commands such as `flask user-delete` from ending.
    assert {thread.daemon for thread in threading.enumerate() if thread.name == "watchdog"} == {True}
