"""Prepared statements."""

from typing import Any
from unittest.mock import Mock

import pytest
from flask import Flask
from sqlalchemy import text

from tests.conftest import Caller, MakeApp
from tests.support.databases import engine_of, rows_of
from tests.support.statements import database_outside_requests
from todo_api.database import Database, DatabaseError, Statement, execution, prepared
from todo_api.database.prepared import PreparedStatement
from todo_api.database.watchdog import Watchdog
from todo_api.tasks import ownership

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    """An application that these tests may change."""
    return make_app()


@pytest.fixture
def database(app: Flask) -> Database:
    return database_outside_requests(app)


@pytest.fixture
def alice(app: Flask) -> Caller:
    return Caller(app.test_client(), "alice")


def connection_of(database: Database) -> tuple[Any, dict[Any, Any]]:
    """Return the driver's connection that the next request will use, and its `info`."""
    connection = database.connections.take()
    try:
        return connection.dbapi_connection, connection.info
    finally:
        connection.close()


def names(connection: Any) -> set[str]:
    """Return the names of the statements prepared on the server."""
    cursor = connection.cursor()
    cursor.execute("SELECT name FROM pg_prepared_statements")
    return {name.decode() for (name,) in cursor.fetchall()}


def test_prepare_and_execute_number_each_parameter_once(database: Database) -> None:
    compiled = database.compiled(Statement(text("SELECT :b, :a WHERE x = :b")))
    assert compiled.steps == ("SELECT %(b)s, %(a)s WHERE x = %(b)s",)
    limit = "SET LOCAL statement_timeout = 10000; "
    assert compiled.declaration == f"{limit}PREPARE {compiled.name} AS SELECT $1, $2 WHERE x = $1"
    assert compiled.call == f"{limit}EXECUTE {compiled.name}(%(b)s, %(a)s)"
    other = PreparedStatement.compile(Statement(text("SELECT 1")), database.connections.dialect, timeout=10)
    assert other.call == f"{limit}EXECUTE {other.name}"
    assert other.name != compiled.name


def test_each_statement_is_prepared_once_on_a_connection(
    database: Database, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership, "PRUNE_EVERY", 10**9)
    for _ in range(3):
        alice.get("/api/tasks")
    connection, notes = connection_of(database)
    assert len(names(connection)) == 1
    assert names(connection) == notes[prepared.PREPARED]
    alice.create()
    alice.create()
    assert len(names(connection)) == 3  # the list, the creation, the user


@pytest.mark.parametrize("known_to", ["us", "the server"])
def test_a_stale_prepared_statement_is_sent_as_text_instead(database: Database, alice: Caller, known_to: str) -> None:
    """The server may have lost it or know it already. Nothing is written twice."""
    alice.create()
    connection, notes = connection_of(database)
    if known_to == "us":
        connection.cursor().execute("DEALLOCATE ALL")
    else:
        notes[prepared.PREPARED].clear()
    task = alice.create("Written once")
    assert [one["title"] for one in alice.get("/api/tasks").json or []] == ["Written once", "Buy milk"]
    assert alice.patch(f"/api/tasks/{task['id']}", json={"is_completed": True}).status_code == 200
    assert connection_of(database) == (connection, notes)
    assert notes[prepared.PREPARED] is None


def test_prepared_statements_survive_schema_changes(database_url: str, alice: Caller) -> None:
    task = alice.create()
    for change in ("ADD COLUMN other integer", "DROP COLUMN other"):
        rows_of(database_url, f"ALTER TABLE tasks {change}")
        assert alice.get("/api/tasks").json == [task]
        assert alice.patch(f"/api/tasks/{task['id']}", json={}).json == task


def test_a_prepared_statement_whose_result_type_changed_is_sent_as_text(database: Database, database_url: str) -> None:
    read = Statement(text("SELECT n FROM changing"))
    rows_of(database_url, "CREATE TABLE changing AS SELECT 1 AS n")
    rows_of(database_url, "GRANT SELECT ON changing TO PUBLIC")
    try:
        assert database.fetch(read, {}) == [(1,)]
        rows_of(database_url, "ALTER TABLE changing ALTER n TYPE text")
        assert database.fetch(read, {}) == [(b"1",)]
    finally:
        rows_of(database_url, "DROP TABLE changing")


def test_an_error_in_prepare_is_reported(database: Database) -> None:
    with pytest.raises(DatabaseError, match="42P01"):
        database.fetch(Statement(text("SELECT 1 FROM nowhere")), {})
    assert database.fetch(Statement(text("SELECT 1")), {}) == [(1,)]


def test_the_statement_timeout_covers_prepare_and_execute_only(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PREPARE, too, waits for a lock on the table."""
    monkeypatch.setattr(execution, "Watchdog", lambda _: Watchdog(60))
    impatient = Database(database.connections, 0.05)
    sleep, count = Statement(text("SELECT pg_sleep(:seconds)")), Statement(text("SELECT count(*) FROM tasks"))
    for _ in range(2):
        with pytest.raises(DatabaseError, match="57014"):
            impatient.fetch(sleep, {"seconds": 5})
    with engine_of(database_url) as engine, engine.begin() as locker:
        locker.execute(text("LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(DatabaseError, match="57014"):
            impatient.fetch(count, {})
    cursor = connection_of(database)[0].cursor()
    cursor.execute("SHOW statement_timeout")
    assert cursor.fetchone() == (b"0",)


@pytest.mark.parametrize("prepares", [True, False])
def test_an_unsupported_statement_fails(database: Database, prepares: bool) -> None:
    """Its SQLSTATE is that of a stale plan, which must not cause an endless retry."""
    if not prepares:
        connection_of(database)[1][prepared.PREPARED] = None
    with pytest.raises(DatabaseError, match="0A000"):
        database.fetch(Statement(text("SELECT 1 FROM elsewhere.public.tasks"), repeatable=True), {})


def test_rare_lists_are_not_prepared(database: Database, alice: Caller) -> None:
    """A client could ask for a thousand of them, and each would take memory of the server."""
    alice.get("/api/tasks")
    connection, _ = connection_of(database)
    common = names(connection)
    for path in ("?sort=title", "?sort=-due_date&include_total=true", "?priority=low", "?tag=a&q=b"):
        for _ in range(2):
            assert alice.get(f"/api/tasks{path}").status_code == 200
    assert names(connection) == common


def test_statements_that_are_stale_on_every_connection_fail(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a pooler that is not recognized, and connections that are always new."""
    is_stale = Mock(return_value=True)
    monkeypatch.setattr(execution, "disable_if_stale", is_stale)
    with pytest.raises(DatabaseError, match="42P01"):
        database.fetch(Statement(text("SELECT 1 FROM nowhere"), repeatable=True), {})
    assert is_stale.call_count == execution.MAX_STALE
