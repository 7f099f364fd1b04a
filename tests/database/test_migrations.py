"""The migrations, and the rules that the schema enforces by itself."""

import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from flask import Flask
from flask_migrate import check, downgrade, upgrade
from sqlalchemy import Engine, inspect, make_url, text
from sqlalchemy.exc import DataError, IntegrityError, ProgrammingError

from tests.conftest import Caller, dispose, environ_for
from tests.support.databases import database_in, engine_of, rows_of
from tests.support.programs import ROOT, environment
from tests.support.releases import CODE_BEFORE, VERSIONS
from tests.support.threads import wait_until
from todo_api import create_app
from todo_api.extensions import Base

TASK_1 = "01890000-0000-7000-8000-000000000001"
TASK_2 = "01890000-0000-7000-8000-000000000002"
TIME = "2026-02-08T09:30:00.123456Z"
USER = {"id": "carol", "created_at": TIME}
TASK = {
    "user_id": "alice",
    "id": TASK_1,
    "title": "Buy milk",
    "description": None,
    "is_completed": False,
    "created_at": TIME,
    "updated_at": TIME,
    "idempotency_key": None,
    "idempotency_digest": None,
    "due_date": None,
    "priority": None,
    "tags": "[]",
    "completed_at": None,
}
TABLES = {"users", "tasks", "deletions", "alembic_version"}
# Columns, constraints and indexes in PostgreSQL's catalogue.
CATALOGUE = (
    "SELECT format('%s %s %s %s %s %s %s', attrelid::regclass, attnum, attname, format_type(atttypid, atttypmod),"
    " attnotnull, attcollation::regcollation, pg_get_expr(adbin, adrelid)) FROM pg_attribute"
    " LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum"
    " WHERE attrelid = ANY ('{users,tasks,deletions}'::regclass[]) AND attnum > 0 AND NOT attisdropped",
    "SELECT format('%s %s %s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid), condeferrable,"
    " convalidated) FROM pg_constraint WHERE conrelid = ANY ('{users,tasks,deletions}'::regclass[])",
    "SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = ANY ('{users,tasks,deletions}'::regclass[])",
)


@pytest.fixture(params=["sqlite", "postgresql"])
def fresh(request: pytest.FixtureRequest, tmp_path: Path, fresh_database: Callable[[str], str]) -> str:
    """The URL of an empty database."""
    return f"sqlite:///{tmp_path / 'empty.db'}" if request.param == "sqlite" else fresh_database("empty")


@pytest.fixture
def postgresql(fresh_database: Callable[[str], str]) -> str:
    """The URL of an empty database."""
    return fresh_database("empty")


@contextmanager
def application(url: str, folder: Path, **settings: str) -> Iterator[Flask]:
    """An application on that database, inside its context, as in a `flask db` command."""
    app = create_app(environ_for(url, **settings), folder)
    with app.app_context():
        try:
            yield app
        finally:
            dispose(app)


def insertion(table: str, row: dict[str, Any]) -> str:
    return f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(f':{name}' for name in row)})"


def insert(url: str, table: str, **row: Any) -> None:
    rows_of(url, insertion(table, row), **row)


def tables(url: str) -> set[str]:
    with engine_of(url) as engine:
        return set(inspect(engine).get_table_names())


def test_upgrade_and_downgrade(fresh: str, tmp_path: Path) -> None:
    with application(fresh, tmp_path):
        upgrade()
        assert tables(fresh) == TABLES
        insert(fresh, "users", id="alice", created_at=TIME)
        insert(fresh, "tasks", **TASK)
        upgrade()
        assert rows_of(fresh, "SELECT count(*) FROM tasks") == [1]
        downgrade(revision="base")
        assert tables(fresh) == {"alembic_version"}
        upgrade()
        assert tables(fresh) == TABLES


def test_flask_db_check_finds_differences_from_the_models(fresh: str, tmp_path: Path) -> None:
    with application(fresh, tmp_path):
        upgrade()
        check()
        rows_of(fresh, "DROP INDEX ix_tasks_idempotency_key")
        with pytest.raises(SystemExit):
            check()


def test_the_migrated_schema_is_identical_to_the_models(
    fresh_database: Callable[[str], str], migrated_database: Callable[[str], str]
) -> None:
    made_by_models, migrated = fresh_database("models"), migrated_database("migrated")
    with engine_of(made_by_models) as engine:
        Base.metadata.create_all(engine)
        for statement in CATALOGUE:
            found = {*rows_of(migrated, statement)}
            assert found == {*rows_of(made_by_models, statement)} != set()


def test_the_migrated_indexes_of_sqlite_are_those_of_the_models(databases: dict[str, str], tmp_path: Path) -> None:
    made_by_models = f"sqlite:///{tmp_path / 'models.db'}"
    # Another test renames the table, and SQLite then writes its name in quotes.
    statement = (
        """SELECT replace(sql, '"tasks"', 'tasks') FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"""
    )
    with engine_of(made_by_models) as engine:
        Base.metadata.create_all(engine)
    assert {*rows_of(databases["sqlite"], statement)} == {*rows_of(made_by_models, statement)} != set()


def test_every_migration_has_the_code_before_it() -> None:
    """tests/faults/test_rolling.py runs it beside the new code."""
    all_migrations = [file.name.partition("_")[0] for file in sorted(VERSIONS.glob("0*.py"))]
    assert [migration for group in CODE_BEFORE for migration in group] == all_migrations[1:]


def test_migrations_use_their_own_database_url(tmp_path: Path) -> None:
    serving, migrating = (f"sqlite:///{tmp_path / name}.db" for name in ("serving", "migrating"))
    with application(serving, tmp_path, MIGRATION_DATABASE_URL=migrating):
        upgrade()
        check()
    assert tables(serving) == set()
    assert tables(migrating) == TABLES


def test_the_url_may_contain_a_percent_sign(postgresql: str, tmp_path: Path) -> None:
    """Alembic's configuration would interpolate it."""
    url = make_url(postgresql).update_query_dict({"application_name": "100% & more"})
    with application(url.render_as_string(hide_password=False), tmp_path):
        upgrade()
    assert tables(postgresql) == TABLES


def test_offline_mode_prints_the_sql(postgresql: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with application(postgresql, tmp_path):
        upgrade(sql=True)
    assert "CREATE TABLE tasks" in capsys.readouterr().out
    assert tables(postgresql) == set()


def test_a_failed_migration_is_rolled_back(postgresql: str, tmp_path: Path) -> None:
    rows_of(postgresql, "CREATE TABLE tasks (in_the_way integer)")
    with application(postgresql, tmp_path), pytest.raises(ProgrammingError, match="already exists"):
        upgrade()
    assert tables(postgresql) == {"tasks"}


@pytest.fixture
def filled(database_url: str) -> str:
    """A database with two users, and one task of alice's."""
    for user in ("alice", "bob"):
        insert(database_url, "users", id=user, created_at=TIME)
    insert(database_url, "tasks", **TASK | {"idempotency_key": "used", "idempotency_digest": b"d"})
    return database_url


def is_accepted(engine: Engine, table: str, row: dict[str, Any]) -> bool:
    """Try to insert a row and roll back."""
    with engine.connect() as connection:
        try:
            connection.execute(text(insertion(table, row)), row)
        except (IntegrityError, DataError):
            return False
    return True


ACCEPTED: list[dict[str, Any]] = [
    {"title": "任" * 200},
    {"description": ""},
    {"description": "🎹" * 2000},
    {"is_completed": True},
    {"due_date": "9999-12-31", "priority": "low", "tags": '["x"]', "completed_at": TIME},
    {"priority": "medium"},
    {"priority": "high"},
    {"user_id": "bob"},
    {"id": TASK_1, "user_id": "bob"},
    {"idempotency_key": "k" * 255, "idempotency_digest": b"d"},
    {"idempotency_key": "used", "idempotency_digest": b"d", "user_id": "bob"},
]
REFUSED: list[dict[str, Any]] = [
    *[{name: None} for name in ("title", "user_id", "id", "is_completed", "tags", "created_at", "updated_at")],
    {"title": ""},
    {"title": "x" * 201},
    {"description": "x" * 2001},
    {"user_id": "carol"},
    {"id": TASK_1},
    {"is_completed": "maybe"},
    {"is_completed": "2"},
    {"priority": ""},
    {"priority": "none"},
    {"priority": "Low"},
    {"idempotency_key": "other"},
    {"idempotency_digest": b"d"},
    {"idempotency_key": "used", "idempotency_digest": b"d"},
    {"idempotency_key": "", "idempotency_digest": b"d"},
    {"idempotency_key": "k" * 256, "idempotency_digest": b"d"},
]
REFUSED_USERS: list[dict[str, Any]] = [
    {"id": ""},
    {"id": "u" * 256},
    {"id": None},
    {"id": "alice"},
    {"created_at": None},
]


def test_constraints_accept_valid_rows_and_reject_all_others(filled: str) -> None:
    task = TASK | {"id": TASK_2}
    with engine_of(filled) as engine:
        assert [row for row in ACCEPTED if not is_accepted(engine, "tasks", task | row)] == []
        assert [row for row in REFUSED if is_accepted(engine, "tasks", task | row)] == []
        assert is_accepted(engine, "users", USER | {"id": "u" * 255})
        assert [row for row in REFUSED_USERS if is_accepted(engine, "users", USER | row)] == []


def test_deleting_a_user_deletes_their_tasks_and_no_others(filled: str) -> None:
    insert(filled, "tasks", **TASK | {"id": TASK_2, "user_id": "bob"})
    rows_of(filled, "DELETE FROM users WHERE id = 'alice'")
    assert rows_of(filled, "SELECT user_id FROM tasks") == ["bob"]


@pytest.mark.parametrize("encoding", ["LATIN1", "EUC_JP", "SQL_ASCII"])
def test_a_database_in_another_encoding_than_utf8_is_refused_in_one_line(
    postgresql: str, tmp_path: Path, encoding: str
) -> None:
    with database_in(postgresql, encoding) as url:
        command = flask_db(url, tmp_path, "upgrade")
        output, _ = command.communicate(timeout=60)
        assert command.returncode == 1
        said = f"todo_api: the encoding of this database is {encoding}, and must be UTF8"
        assert output.splitlines()[-1].startswith(said), output
        assert "Traceback" not in output
        assert tables(url) == set()


# --- On a database in use ---

# What the code of revision 0002 sends: it knows neither the owner's row nor deletions.
OLD_USER = "INSERT INTO users (id, created_at) VALUES (%(user)s, now()) ON CONFLICT DO NOTHING"
OLD_CREATION = (
    "INSERT INTO tasks (user_id, id, title, is_completed, created_at, updated_at)"
    " SELECT id, %(id)s, 'Old', false, now(), now() FROM users WHERE id = %(user)s RETURNING id"
)
OLD_CHANGE = (
    "UPDATE tasks SET title = 'Changed', updated_at = greatest(now(), updated_at + interval '1 microsecond')"
    " WHERE user_id = %(user)s AND id = %(id)s RETURNING id"
)
OLD_DELETION = "DELETE FROM tasks WHERE user_id = %(user)s AND id = %(id)s RETURNING id"
OLD_LIST = 'SELECT id FROM tasks WHERE user_id = %(user)s ORDER BY title COLLATE "C", id LIMIT 20'
OF_0002 = (OLD_USER, OLD_CREATION, OLD_CHANGE, OLD_LIST, OLD_CREATION, OLD_DELETION)
# What the code of revision 0005 sends: it knows the owner's row, but no `completed_at`.
MOVE = "UPDATE users SET updated_at = greatest(now(), updated_at + interval '1 microsecond')"
COUNT = "coalesce(task_count, (SELECT count(*) FROM tasks WHERE user_id = %(user)s))"
RETURNING = "RETURNING id AS owner_id, updated_at AS now"
OWNER = f"WITH owner AS ({MOVE}, task_count = {COUNT} + {{}} WHERE id = %(user)s {RETURNING})"
CREATION = (
    f"{OWNER.format(1)} INSERT INTO tasks (user_id, id, title, is_completed, created_at, updated_at)"
    " SELECT owner_id, %(id)s, 'Old', false, now, now FROM owner RETURNING id"
)
COMPLETION = (
    f"{OWNER.format(0)} UPDATE tasks SET is_completed = NOT is_completed, updated_at = now FROM owner"
    " WHERE user_id = %(user)s AND id = %(id)s AND user_id = owner_id RETURNING title, is_completed"
)
BULK_CHANGE = (
    f"{OWNER.format(0)} UPDATE tasks SET is_completed = true, updated_at = now FROM owner"
    " WHERE user_id = %(user)s AND NOT is_completed AND user_id = owner_id"
)
DELETION = (
    f"{OWNER.format(-1)}, gone AS (DELETE FROM tasks USING owner WHERE user_id = owner_id AND id = %(id)s RETURNING id)"
    " INSERT INTO deletions (user_id, deleted_at, task_id) SELECT owner_id, now, gone.id FROM owner, gone"
)
LIST = (
    "SELECT id, title, description, is_completed, created_at, updated_at FROM tasks WHERE user_id = %(user)s"
    " ORDER BY created_at DESC, id DESC LIMIT 20"
)
OF_0005 = (OLD_USER, CREATION, COMPLETION, LIST, BULK_CHANGE, CREATION, DELETION, CREATION)
FILL = (
    "INSERT INTO users (id, created_at) SELECT 'user' || n, now() FROM generate_series(0, 199) n",
    "INSERT INTO tasks (user_id, id, title, is_completed, created_at, updated_at)"
    " SELECT 'user' || n % 200, gen_random_uuid(), 'Task ' || n, n % 3 = 0, now(), now()"
    " FROM generate_series(1, 200000) n",
)
NO_VALUES: dict[str, Any] = {"due_date": None, "priority": None, "tags": []}
SLOWEST = 3.0  # seconds, as long as a statement may take


def flask_db(url: str, folder: Path, *command: str) -> "subprocess.Popen[str]":
    env = environment(**environ_for(url))
    arguments = [sys.executable, "-m", "flask", "--app", str(ROOT / "wsgi.py"), "db", *command]
    return subprocess.Popen(arguments, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def serve_as_old_code(statements: tuple[str, ...], url: str, user: str, stop: threading.Event) -> list[float]:
    """Send these statements of an earlier revision again and again; return the seconds that each took."""
    seconds = []
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        while not stop.is_set():
            task = {"user": user, "id": str(uuid.uuid4())}
            for statement in statements:
                began = time.monotonic()
                if "INSERT INTO tasks" in statement:
                    task["id"] = str(uuid.uuid4())
                cursor.execute(statement, task)
                seconds.append(time.monotonic() - began)
    return seconds


def upgrade_while_serving(
    url: str, folder: Path, statements: tuple[str, ...], meanwhile: Callable[[Caller], object]
) -> None:
    """Upgrade while the code before serves four users; then let the new code do something for each, beside the old."""
    for statement in FILL:
        rows_of(url, statement)
    stop = threading.Event()
    with ThreadPoolExecutor(4) as threads:
        users = [f"user{number}" for number in (0, 1, 500, 501)]
        serving = [threads.submit(serve_as_old_code, statements, url, user, stop) for user in users]
        try:
            command = flask_db(url, folder, "upgrade")
            output, _ = command.communicate(timeout=120)
            assert command.returncode == 0, output
            with application(url, folder) as app:
                for user in users:
                    meanwhile(Caller(app.test_client(), user))
        finally:
            stop.set()
        slowest = max(second for thread in serving for second in thread.result())
    assert slowest < SLOWEST


def wrong_counts(url: str) -> list[int]:
    """Return how many users' counts of tasks are wrong."""
    counts = "SELECT count(*) FROM users WHERE task_count <> (SELECT count(*) FROM tasks WHERE user_id = users.id)"
    return rows_of(url, counts)


def copy_of(caller: Caller) -> list[dict[str, Any]]:
    """Return a first copy of the user's tasks, from the feed of changes."""
    copy: list[dict[str, Any]] = []
    query: dict[str, str] = {}
    while True:
        body: Any = caller.get("/api/tasks/changes", query_string=query).json
        copy += body["tasks"]
        query = {"since": body["next"]}
        if not body["has_more"]:
            return copy


@pytest.mark.slow
def test_the_owners_row_comes_while_the_code_before_it_serves(postgresql: str, tmp_path: Path) -> None:
    with application(postgresql, tmp_path):
        upgrade(revision="0002")
    upgrade_while_serving(
        postgresql, tmp_path, OF_0002, lambda caller: caller.create("By the new code, beside the old")
    )
    with application(postgresql, tmp_path) as app:
        assert app.test_cli_runner().invoke(args=["recount"]).exit_code == 0
        check()
        assert wrong_counts(postgresql) == [0]
        assert rows_of(postgresql, "SELECT count(*) FROM users WHERE task_count IS NULL") == [0]
        for number in (0, 1, 17, 500):
            caller = Caller(app.test_client(), f"user{number}")
            stored = {*rows_of(postgresql, "SELECT id::text FROM tasks WHERE user_id = :user", user=f"user{number}")}
            assert {task["id"] for task in copy_of(caller)} == stored


@pytest.mark.slow
def test_due_dates_come_while_the_code_before_them_serves(postgresql: str, tmp_path: Path) -> None:
    made: dict[str, Any] = {"due_date": "2026-02-08", "priority": "high", "tags": ["new"]}

    def use_new_fields(caller: Caller) -> None:
        for number in range(20):
            task = caller.create(f"New {number}", is_completed=True, **made)
            assert task["completed_at"] == task["updated_at"]
            for query in ("?tag=new&sort=due_date", "?due_to=2026-02-08&priority=high&sort=-priority"):
                assert task in (caller.get(f"/api/tasks{query}").json or [])

    with application(postgresql, tmp_path):
        upgrade(revision="0005")
    file = "SELECT relfilenode FROM pg_class WHERE relname = 'tasks'"
    before = rows_of(postgresql, file)
    upgrade_while_serving(postgresql, tmp_path, OF_0005, use_new_fields)
    assert rows_of(postgresql, file) == before  # the table was not rewritten
    assert wrong_counts(postgresql) == [0]
    with application(postgresql, tmp_path) as app:
        check()
        for number in (0, 1, 17, 500, 501):
            caller = Caller(app.test_client(), f"user{number}")
            tasks = copy_of(caller)
            assert {task["is_completed"] for task in tasks} == {True, False}
            for task in tasks:
                is_new = task["title"].startswith("New")
                assert {name: task[name] for name in made} == (made if is_new else NO_VALUES)
                assert (task["completed_at"] is not None) == task["is_completed"]
                assert task["completed_at"] in (None, task["updated_at"])
            old = next(task for task in tasks if task["is_completed"] and not task["title"].startswith("New"))
            changed: Any = caller.patch(f"/api/tasks/{old['id']}", json={"priority": "low"}).json
            assert changed["completed_at"] == old["updated_at"] < changed["updated_at"]


@pytest.mark.slow
@pytest.mark.parametrize("start", ["base", "0002"])
def test_three_upgrades_at_once_all_succeed(fresh: str, tmp_path: Path, start: str) -> None:
    if start != "base":
        with application(fresh, tmp_path):
            upgrade(revision=start)
    commands = [flask_db(fresh, tmp_path, "upgrade") for _ in range(3)]
    outputs = [command.communicate(timeout=120)[0] for command in commands]
    assert [command.returncode for command in commands] == [0, 0, 0], outputs
    with application(fresh, tmp_path):
        check()


def waits(number: int, url: str) -> bool:
    """Return whether that many statements wait for the lock of a table of that database."""
    waiting = (
        "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database"
        " WHERE datname = current_database() AND locktype = 'relation' AND NOT granted"
    )
    return rows_of(url, waiting) == [number]


@contextmanager
def upgrading_a_locked_table(url: str, folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """Start an upgrade of a database whose table `users` another session keeps locked meanwhile."""
    with application(url, folder):
        upgrade(revision="0002")
    with engine_of(url) as engine, engine.connect() as other:
        other.execute(text("LOCK TABLE users IN ROW EXCLUSIVE MODE"))
        yield flask_db(url, folder, "upgrade")


@pytest.mark.slow
def test_an_upgrade_waits_for_a_lock_in_short_turns(postgresql: str, tmp_path: Path) -> None:
    """Requests that come after it would wait behind it."""
    with upgrading_a_locked_table(postgresql, tmp_path) as command:
        for wanted in (1, 0, 1):
            wait_until(partial(waits, wanted, postgresql))
    output, _ = command.communicate(timeout=60)
    assert command.returncode == 0, output


@pytest.mark.slow
def test_an_upgrade_that_never_gets_its_lock_gives_up(postgresql: str, tmp_path: Path) -> None:
    with upgrading_a_locked_table(postgresql, tmp_path) as command:
        output, _ = command.communicate(timeout=120)
        assert command.returncode == 1
        assert "keeps a table locked" in output.splitlines()[-1]
        assert "Traceback" not in output
    command = flask_db(postgresql, tmp_path, "upgrade")
    assert (command.communicate(timeout=60)[0], command.returncode)[1] == 0
    with application(postgresql, tmp_path):
        check()


def test_an_upgrade_does_not_wait_for_another_for_ever(
    postgresql: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept = [0.0]
    monkeypatch.setattr(time, "sleep", lambda _: slept.append(600))
    monkeypatch.setattr(time, "monotonic", lambda: sum(slept))
    with engine_of(postgresql) as engine, engine.connect() as other:
        other.execute(text("SELECT pg_advisory_lock(8387232614092149113)"))
        with application(postgresql, tmp_path), pytest.raises(SystemExit, match="another command has been migrating"):
            upgrade()
    assert tables(postgresql) == set()
