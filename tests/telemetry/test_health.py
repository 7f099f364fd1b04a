"""Health checks: whether the process runs, and whether it can serve requests."""

import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import Mock, call

import pytest
from alembic.script import ScriptDirectory
from flask import Flask
from sqlalchemy import text

from tests.conftest import MakeApp, assert_error, dispose, environ_for
from tests.support.clock import Clock, replace_clock
from tests.support.databases import database_in, engine_of, rows_of
from tests.support.issuers import Key, KeyServer, respond_with
from todo_api import create_app
from todo_api.auth import keys
from todo_api.database import connections, get_database
from todo_api.extensions import MIGRATIONS
from todo_api.telemetry import health


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    """An application that these tests may change."""
    return make_app()


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """Counts the checks of the database."""
    check = Mock(wraps=health.check_database)
    monkeypatch.setattr(health, "check_database", check)
    return check


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return replace_clock(monkeypatch, health, keys)


@pytest.fixture
def revision(database_url: str) -> Iterator[Any]:
    """Set the revisions stored in the database; restore them afterwards."""
    [before] = rows_of(database_url, "SELECT version_num FROM alembic_version")

    def be_at(*values: str) -> None:
        rows_of(database_url, "DELETE FROM alembic_version")
        for value in values:
            rows_of(database_url, "INSERT INTO alembic_version VALUES (:value)", value=value)

    yield be_at
    be_at(before)


def status(app: Flask) -> int:
    """Return the status of /health/ready, after checking that /health says the same."""
    [ready, same] = [app.test_client().get(path) for path in ("/health/ready", "/health")]
    assert (ready.status_code, ready.json) == (same.status_code, same.json)
    return ready.status_code


@pytest.mark.parametrize("path", ["/health/ready", "/health"])
def test_a_working_service_is_ready(app: Flask, path: str) -> None:
    said = app.test_client().get(path)
    assert (said.status_code, said.json) == (200, {"status": "ready"})


def assert_logged(log: str, why: str) -> None:
    assert re.search(f'(: |:")not ready: {re.escape(why)}("|$)', log, re.MULTILINE), log


@pytest.mark.parametrize(("revisions", "told"), [([], "none"), (["0001"], "0001")])
def test_a_schema_that_lacks_a_revision_is_not_ready_and_only_the_log_says_why(
    make_app: MakeApp, revision: Any, capfd: pytest.CaptureFixture[str], revisions: list[str], told: str
) -> None:
    revision(*revisions)
    said = make_app().test_client().get("/health/ready")
    body = assert_error(said, 503, "NOT_READY")
    assert said.headers["Retry-After"]
    assert "revision" not in str(body)
    assert told not in str(body)
    why = f"the database is at revision {told}, the code needs a later one: flask db upgrade"
    assert_logged(capfd.readouterr().err, why)


def test_the_files_of_the_revisions_are_named_in_the_order_of_alembic() -> None:
    scripts = ScriptDirectory(str(MIGRATIONS)).walk_revisions()
    assert health.revisions() == [script.revision for script in scripts][::-1]


@pytest.mark.sqlite_only
def test_a_newer_schema_is_ready_as_migrations_run_before_the_new_code(app: Flask, revision: Any) -> None:
    revision("9999")
    assert status(app) == 200


@pytest.mark.sqlite_only
def test_a_database_without_a_schema_is_not_ready(make_app: MakeApp, tmp_path: Any) -> None:
    url = f"sqlite:///{tmp_path / 'empty.db'}"
    assert status(make_app(ENVIRONMENT="development", DATABASE_URL=url)) == 503


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_in_another_encoding_than_utf8_is_not_ready(
    migrated_database: Callable[[str], str], tmp_path: Path, capfd: pytest.CaptureFixture[str], encoding: str
) -> None:
    with database_in(migrated_database("encoding"), encoding) as url:
        rows_of(url, "CREATE TABLE alembic_version AS SELECT '9999' AS version_num")
        app = create_app(environ_for(url), tmp_path)
        assert status(app) == 503
        assert_logged(capfd.readouterr().err, f"the encoding of the database is {encoding}, and must be UTF8")
        dispose(app)


def test_later_checks_ask_only_for_the_revision_and_whether_the_server_writes(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = Mock(wraps=app.extensions["database"].fetch)
    monkeypatch.setattr(app.extensions["database"], "fetch", fetch)
    with app.app_context():
        assert health.check_database() is None
        files = Mock(glob=Mock(side_effect=AssertionError("the migrations are read again")))
        monkeypatch.setattr(health, "MIGRATIONS", files)
        fetch.reset_mock()
        assert health.check_database() is None
    assert fetch.call_args_list == [call(health.REVISIONS, {}), call(health.LOCK, {})]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_lock_that_is_not_had_is_no_reason_not_to_be_ready(
    make_app: MakeApp, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health.LOCK, "max_seconds", 1)
    app = make_app()
    with engine_of(database_url) as engine, engine.begin() as other:
        other.execute(text("LOCK TABLE users IN EXCLUSIVE MODE"))
        assert status(app) == 200


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_server_that_only_reads_is_not_ready_until_a_new_connection_finds_one_that_writes(
    make_app: MakeApp, capfd: pytest.CaptureFixture[str], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a standby does. No other request may come that would notice it."""
    app = make_app()
    monkeypatch.setattr(connections, "STANDBY_RETRY", 0)
    with app.app_context():
        connection = get_database().connections.take()  # the one that the check gets
    connection.cursor().execute("SET default_transaction_read_only = on")
    connection.close()
    assert status(app) == 503
    assert "in a read-only transaction" in capfd.readouterr().err
    clock.ahead += 6
    assert status(app) == 200


@pytest.mark.sqlite_only
def test_an_unreachable_database_is_not_ready(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app(ENVIRONMENT="production", DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    monkeypatch.setattr("todo_api.database.execution.RETRY_WINDOW", 0.1)
    assert status(app) == 503
    assert app.test_client().get("/health/live").status_code == 200


@pytest.mark.sqlite_only
def test_the_database_is_checked_once_per_interval(make_app: MakeApp, checked: Mock, clock: Clock) -> None:
    app = make_app(READY_INTERVAL="600")
    assert [status(app) for _ in range(3)] == [200] * 3
    clock.ahead += 599
    assert status(app) == 200
    assert checked.call_count == 1
    clock.ahead += 2
    assert status(app) == 200
    assert checked.call_count == 2


@pytest.mark.sqlite_only
def test_a_failure_is_remembered_for_five_seconds_at_most(
    make_app: MakeApp, database_url: str, revision: Any, checked: Mock, clock: Clock
) -> None:
    app = make_app(READY_INTERVAL="600")
    [newest] = rows_of(database_url, "SELECT version_num FROM alembic_version")
    revision("0001")
    assert [status(app), status(app)] == [503, 503]
    assert checked.call_count == 1
    revision(newest)
    clock.ahead += 5.1
    assert status(app) == 200


@pytest.mark.sqlite_only
def test_readiness_fetches_the_keys(make_app: MakeApp, clock: Clock, capfd: pytest.CaptureFixture[str]) -> None:
    with closing(KeyServer()) as issuer:
        issuer.behaviour = respond_with(500, b"")
        app = make_app(JWKS_URL=issuer.url, JWT_ISSUER="i", JWT_AUDIENCE="a")
        assert status(app) == 503
        assert_logged(capfd.readouterr().err, "the keys that verify tokens cannot be fetched")
        issuer.serve(Key("ES256", "one").jwk)
        clock.ahead += 6
        assert status(app) == 200
        issuer.behaviour = respond_with(500, b"")
        clock.ahead += 600
        assert status(app) == 200, "the last good set serves on for an hour"


@pytest.mark.sqlite_only
def test_missing_keys_are_noticed_at_once_without_more_database_checks(
    make_app: MakeApp, checked: Mock, clock: Clock
) -> None:
    with closing(KeyServer(Key("ES256", "one").jwk)) as issuer:
        app = make_app(JWKS_URL=issuer.url, JWT_ISSUER="i", JWT_AUDIENCE="a", READY_INTERVAL="86400")
        assert status(app) == 200
        issuer.behaviour = respond_with(500, b"")
        clock.ahead += keys.MAX_AGE + 1
        for _ in range(3):
            assert status(app) == 503
            clock.ahead += 6
        assert checked.call_count == 1


def test_while_a_check_runs_other_requests_get_the_last_result(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    monkeypatch.setattr(health, "CHECK_TIMEOUT", 0.1)
    running, finished = threading.Event(), threading.Event()

    def run() -> None:
        running.set()
        finished.wait(10)

    check = health.CachedCheck(run, 60)
    for last_result in (False, True):  # before the first result nothing is ready
        running.clear()
        finished.clear()
        with ThreadPoolExecutor(1) as thread:
            first = thread.submit(check.passes)
            running.wait(10)
            assert check.passes() is last_result
            finished.set()
            assert first.result()
        clock.ahead += 61
