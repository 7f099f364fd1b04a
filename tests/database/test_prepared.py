"""Statements that PostgreSQL has planned beforehand, on connections to one and the same process."""

from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text

from tests.conftest import Caller, MakeApp
from tests.support.databases import engine_of, rows_of
from todo_api.database import prepared
from todo_api.database.execution import DatabaseError
from todo_api.database.prepared import form_of
from todo_api.tasks.ownership import Statements

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    """An application that these tests may change."""
    return make_app()


def statements_of(app: Flask) -> Statements:
    found: Statements = app.extensions["ownership"]
    return found


def connection_of(app: Flask) -> tuple[Any, dict[str, Any]]:
    """The driver's connection that the next request will use, and the pool's notes on it."""
    pool = statements_of(app).database._engine.pool
    entry = pool._do_get()
    pool._do_return_conn(entry)
    return entry.dbapi_connection, entry.info


def count_of(user: Caller) -> int:
    found = user.get("/api/tasks").json
    assert found is not None
    return len(found)


def names(connection: Any) -> set[str]:
    """What the server process has prepared."""
    cursor = connection.cursor()
    cursor.execute("SELECT name FROM pg_prepared_statements")
    return {name for (name,) in cursor.fetchall()}


def test_a_statement_has_its_values_by_number_each_once(database_url: str) -> None:
    form = form_of("SELECT %(b)s, %(a)s WHERE x = %(b)s")
    assert form.declaration == f"PREPARE {form.name} AS SELECT $1, $2 WHERE x = $1"
    assert form.call == f"EXECUTE {form.name}(%(b)s, %(a)s)"
    assert form_of("SELECT 1").call == f"EXECUTE {form_of('SELECT 1').name}"
    assert form.name != form_of("SELECT 1").name


def test_each_statement_is_prepared_once_on_a_connection(app: Flask) -> None:
    alice = Caller(app.test_client(), "alice")
    for _ in range(3):
        alice.get("/api/tasks")
    connection, notes = connection_of(app)
    assert len(names(connection)) == 1
    assert names(connection) == notes[prepared.KEPT]
    alice.create()
    alice.create()
    assert len(names(connection)) == 3  # the list, the creation, the user


def test_behind_a_pooler_nothing_is_prepared(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """There another process answers than the one that was introduced."""
    monkeypatch.setattr(prepared, "PROCESS", "SELECT pg_backend_pid() + 1")
    alice = Caller(app.test_client(), "alice")
    task = alice.create()
    assert alice.get("/api/tasks").json == [task]
    connection, notes = connection_of(app)
    assert notes[prepared.KEPT] is None
    assert names(connection) == set()


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
def test_a_statement_that_the_process_does_not_know_goes_out_as_it_is(app: Flask, method: str) -> None:
    """Another process than before, and it may even know one of that name."""
    alice = Caller(app.test_client(), "alice")

    def call() -> int:
        if method == "POST":
            return alice.post("/api/tasks", json={"title": "x"}).status_code
        task = f"/api/tasks/{alice.create()['id']}"
        return alice(method, task, json={"title": "y"} if method == "PATCH" else None).status_code

    status = call()
    before = count_of(alice)
    for undo in ("DEALLOCATE ALL", None):
        connection, notes = connection_of(app)
        if undo:
            connection.cursor().execute(undo)
        else:
            notes[prepared.KEPT] = set()
        assert call() == status
        assert connection_of(app)[1][prepared.KEPT] in (None, set()) or undo is None
        notes[prepared.KEPT] = set(names(connection))
    assert count_of(alice) == before + 2 * (method != "DELETE")


def test_a_change_of_the_schema_is_noticed(app: Flask, database_url: str) -> None:
    alice = Caller(app.test_client(), "alice")
    task = alice.create()
    for change in ("ADD COLUMN other integer", "DROP COLUMN other"):
        rows_of(database_url, f"ALTER TABLE tasks {change}")
        assert alice.get("/api/tasks").json == [task]
        assert alice.patch(f"/api/tasks/{task['id']}", json={}).json == task


def test_a_statement_that_cannot_be_prepared_says_why(app: Flask) -> None:
    with pytest.raises(DatabaseError, match="42P01"):
        statements_of(app).database.run("SELECT 1 FROM nowhere", {}, repeatable=True)
    assert Caller(app.test_client(), "alice").get("/api/tasks").status_code == 200


def test_the_limit_on_time_holds_for_what_is_prepared(app: Flask) -> None:
    database = statements_of(app).database
    assert database._preparer
    database._preparer._limit = "SET LOCAL statement_timeout = 50; "
    for _ in range(2):
        with pytest.raises(DatabaseError, match="57014"):
            database.run("SELECT pg_sleep(%(seconds)s)", {"seconds": 5}, repeatable=False)
    connection, _ = connection_of(app)
    cursor = connection.cursor()
    cursor.execute("SHOW statement_timeout")
    assert cursor.fetchone() == ("0",)


def test_a_table_that_changed_its_types_is_asked_anew(app: Flask) -> None:
    run = statements_of(app).database.run
    Caller(app.test_client(), "alice").create()
    connection, _ = connection_of(app)
    connection.cursor().execute("CREATE TABLE changing (n integer)")
    try:
        connection.cursor().execute("INSERT INTO changing VALUES (1)")
        assert run("SELECT n FROM changing", {}, repeatable=False) == [1]
        connection.cursor().execute("ALTER TABLE changing ALTER n TYPE text")
        assert run("SELECT n FROM changing", {}, repeatable=False) == ["1"]
    finally:
        connection.cursor().execute("DROP TABLE changing")


def test_a_lock_on_a_table_does_not_outlast_the_limit(app: Flask, database_url: str) -> None:
    """What is prepared waits for the lock, too, and the server is to give that up by itself."""
    database = statements_of(app).database
    assert database._preparer
    database._preparer._limit = "SET LOCAL statement_timeout = 100; "
    with engine_of(database_url) as engine, engine.begin() as locker:
        locker.execute(text("LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(DatabaseError, match="57014"):
            database.run("SELECT count(*) FROM tasks", {}, repeatable=False)


@pytest.mark.parametrize("behind_a_pooler", [True, False])
def test_a_statement_that_the_database_does_not_know_how_to_run_ends(
    app: Flask, monkeypatch: pytest.MonkeyPatch, behind_a_pooler: bool
) -> None:
    """It has the code of a plan that is out of date, and it has it without any plan."""
    if behind_a_pooler:
        monkeypatch.setattr(prepared, "PROCESS", "SELECT pg_backend_pid() + 1")
    with pytest.raises(DatabaseError, match="0A000"):
        statements_of(app).database.run("SELECT 1 FROM elsewhere.public.tasks", {}, repeatable=True)
