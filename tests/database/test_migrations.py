"""The schema: made by the migrations, the same as the models', and holding its rules without the application."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_migrate import check, downgrade, upgrade
from sqlalchemy import inspect, make_url, text
from sqlalchemy.exc import DataError, IntegrityError, ProgrammingError

from tests.conftest import dispose, environ_for
from tests.support.databases import engine_of
from todo_api import create_app
from todo_api.extensions import Base

TASK_1 = "01890000-0000-7000-8000-000000000001"
TASK_2 = "01890000-0000-7000-8000-000000000002"
TIME = "2026-02-08T09:30:00.123456Z"
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
}
COLUMNS = {
    "users": [("id", False), ("created_at", False)],
    "tasks": [
        ("user_id", False),
        ("id", False),
        ("title", False),
        ("description", True),
        ("is_completed", False),
        ("created_at", False),
        ("updated_at", False),
        ("idempotency_key", True),
        ("idempotency_digest", True),
    ],
}
CHECKS = {
    "ck_users_id_length",
    "ck_tasks_title_length",
    "ck_tasks_description_length",
    "ck_tasks_idempotency_key_length",
    "ck_tasks_idempotency_pair",
}
INDEXES = {
    "CREATE UNIQUE INDEX ix_tasks_id ON tasks (id)",
    "CREATE INDEX ix_tasks_newest_first ON tasks (user_id, created_at DESC, id DESC)",
    "CREATE INDEX ix_tasks_updated_at ON tasks (user_id, updated_at, id)",
    "CREATE UNIQUE INDEX ix_tasks_idempotency_key ON tasks (user_id, idempotency_key)"
    " WHERE idempotency_key IS NOT NULL",
}
BY_TITLE = {
    "sqlite": "CREATE INDEX ix_tasks_title ON tasks (user_id, title, id)",
    "postgresql": "CREATE INDEX ix_tasks_title ON tasks (user_id, title COLLATE C, id)",
}

Fresh = Callable[[], str]


@pytest.fixture(params=["sqlite", "postgresql"])
def fresh(request: pytest.FixtureRequest, tmp_path: Path, fresh_database: Callable[[str], str]) -> Fresh:
    """Make the URL of an empty database; each call makes another."""
    made: list[str] = []

    def make() -> str:
        sqlite = f"sqlite:///{tmp_path / f'empty-{len(made)}.db'}"
        made.append(sqlite if request.param == "sqlite" else fresh_database("empty"))
        return made[-1]

    return make


@pytest.fixture
def fresh_postgresql(fresh_database: Callable[[str], str]) -> str:
    return fresh_database("empty")


@contextmanager
def application(url: str, folder: Path, **settings: str) -> Iterator[Flask]:
    """An application on that database, inside its context, as a `flask db` command has it."""
    app = create_app(environ_for(url, **settings), folder)
    with app.app_context():
        try:
            yield app
        finally:
            dispose(app)


def run(url: str, statement: str, **values: Any) -> list[Any]:
    """Run one statement in a transaction of its own; return its rows."""
    with engine_of(url) as engine, engine.begin() as connection:
        result = connection.execute(text(statement), values)
        return list(result) if result.returns_rows else []


def insert(url: str, table: str, **values: Any) -> None:
    names = ", ".join(values)
    run(url, f"INSERT INTO {table} ({names}) VALUES ({', '.join(f':{name}' for name in values)})", **values)


def tables(url: str) -> set[str]:
    with engine_of(url) as engine:
        return set(inspect(engine).get_table_names())


def plain(definition: str) -> str:
    """An index in the words that both databases share."""
    words = definition.replace("public.", "").replace("USING btree ", "").replace('"', "")
    return re.sub(r"WHERE \((.*)\)$", r"WHERE \1", words)


def indexes(url: str) -> set[str]:
    if url.startswith("sqlite"):
        found = run(url, "SELECT sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
    else:
        found = run(
            url,
            "SELECT pg_get_indexdef(indexrelid) FROM pg_index"
            " WHERE indrelid IN (to_regclass('users'), to_regclass('tasks')) AND NOT indisprimary",
        )
    return {plain(row[0]) for row in found}


def schema(url: str) -> set[tuple[Any, ...]]:
    """Everything that the database's own catalogue says about the two tables."""
    if url.startswith("sqlite"):
        made = run(url, "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name <> 'alembic_version'")
        return {(name, *clauses(sql)) for name, sql in made}
    columns = run(
        url,
        "SELECT attrelid::regclass::text, attnum, attname, format_type(atttypid, atttypmod), attnotnull,"
        " attcollation::regcollation::text, pg_get_expr(adbin, adrelid) FROM pg_attribute"
        " LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum"
        " WHERE attrelid IN (to_regclass('users'), to_regclass('tasks')) AND attnum > 0 AND NOT attisdropped",
    )
    constraints = run(
        url,
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), condeferrable, convalidated"
        " FROM pg_constraint WHERE conrelid IN (to_regclass('users'), to_regclass('tasks'))",
    )
    return {tuple(row) for row in (*columns, *constraints)} | {(definition,) for definition in indexes(url)}


def clauses(sql: str) -> list[str]:
    """The parts of a CREATE statement; the columns in their order, the constraints in any."""
    flat = re.sub(r"\s+", " ", sql).replace("( ", "(").replace(" )", ")")
    head, _, rest = flat.partition("(")
    parts = [part.strip() for part in re.split(r",(?![^(]*\))", rest)]
    constraints = [part.removesuffix(")") for part in parts if part.startswith("CONSTRAINT")]
    return [head, *(part for part in parts if not part.startswith("CONSTRAINT")), *sorted(constraints)]


@pytest.fixture
def migrated(fresh: Fresh, tmp_path: Path) -> str:
    url = fresh()
    with application(url, tmp_path):
        upgrade()
    return url


def test_the_migrations_make_the_tables_and_take_them_away_again(fresh: Fresh, tmp_path: Path) -> None:
    url = fresh()
    assert tables(url) == set()
    with application(url, tmp_path):
        upgrade()
        assert tables(url) == {"users", "tasks", "alembic_version"}
        insert(url, "users", id="alice", created_at=TIME)
        insert(url, "tasks", **TASK)
        upgrade()
        assert run(url, "SELECT count(*) FROM tasks") == [(1,)]
        downgrade(revision="base")
        assert tables(url) == {"alembic_version"}
        assert indexes(url) == set()
        upgrade()
        assert tables(url) == {"users", "tasks", "alembic_version"}


def test_the_migrations_lead_to_what_the_models_say(fresh: Fresh, migrated: str, tmp_path: Path) -> None:
    with application(migrated, tmp_path):
        check()
    made_by_models = fresh()
    with engine_of(made_by_models) as engine:
        Base.metadata.create_all(engine)
    assert schema(migrated) == schema(made_by_models)


@pytest.mark.parametrize(
    "difference",
    [
        "ALTER TABLE tasks ADD COLUMN colour text",
        "DROP INDEX ix_tasks_id",
        "DROP INDEX ix_tasks_idempotency_key",
        "DROP TABLE tasks",
    ],
)
def test_the_check_sees_a_difference(migrated: str, tmp_path: Path, difference: str) -> None:
    run(migrated, difference)
    with application(migrated, tmp_path), pytest.raises(SystemExit):
        check()


def test_the_schema_is_the_one_that_was_decided(migrated: str) -> None:
    assert indexes(migrated) == INDEXES | {BY_TITLE[make_url(migrated).drivername]}
    with engine_of(migrated) as engine:
        found = inspect(engine)
        for table, columns in COLUMNS.items():
            assert [(column["name"], column["nullable"]) for column in found.get_columns(table)] == columns
        assert found.get_pk_constraint("users")["constrained_columns"] == ["id"]
        key = found.get_pk_constraint("tasks")
        assert (key["name"], key["constrained_columns"]) == ("pk_tasks", ["user_id", "id"])
        [foreign] = found.get_foreign_keys("tasks")
        assert foreign["name"] == "fk_tasks_user_id_users"
        assert (foreign["constrained_columns"], foreign["referred_table"]) == (["user_id"], "users")
        assert (foreign["referred_columns"], foreign["options"]) == (["id"], {"ondelete": "CASCADE"})
        checks = {check["name"] for table in COLUMNS for check in found.get_check_constraints(table)}
    # SQLite has no boolean of its own
    assert checks == CHECKS | ({"ck_tasks_is_completed"} if migrated.startswith("sqlite") else set())


def test_postgresql_keeps_each_value_in_the_type_made_for_it(fresh_postgresql: str, tmp_path: Path) -> None:
    with application(fresh_postgresql, tmp_path):
        upgrade()
    types = run(
        fresh_postgresql,
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'tasks'",
    )
    assert dict(types) == {
        "user_id": "text",
        "id": "uuid",
        "title": "text",
        "description": "text",
        "is_completed": "boolean",
        "created_at": "timestamp with time zone",
        "updated_at": "timestamp with time zone",
        "idempotency_key": "text",
        "idempotency_digest": "bytea",
    }


def test_migrations_go_to_the_database_meant_for_them(fresh: Fresh, tmp_path: Path) -> None:
    serving, migrating = fresh(), fresh()
    with application(serving, tmp_path, MIGRATION_DATABASE_URL=migrating):
        upgrade()
        check()
    assert tables(serving) == set()
    assert tables(migrating) == {"users", "tasks", "alembic_version"}


def test_a_percent_sign_in_the_url_does_no_harm(fresh_postgresql: str, tmp_path: Path) -> None:
    """Alembic's own configuration file would take it for the beginning of a reference."""
    url = make_url(fresh_postgresql).update_query_dict({"application_name": "100% & more"})
    with application(url.render_as_string(hide_password=False), tmp_path):
        upgrade()
    assert "tasks" in tables(fresh_postgresql)


def test_the_statements_can_be_shown_without_a_change(
    fresh: Fresh, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = fresh()
    with application(url, tmp_path):
        upgrade(sql=True)
    assert "CREATE TABLE tasks" in capsys.readouterr().out
    assert tables(url) == set()


def test_a_failed_migration_leaves_nothing_half_done(fresh_postgresql: str, tmp_path: Path) -> None:
    run(fresh_postgresql, "CREATE TABLE tasks (in_the_way integer)")
    with application(fresh_postgresql, tmp_path), pytest.raises(ProgrammingError, match="already exists"):
        upgrade()
    assert tables(fresh_postgresql) == {"tasks"}


@pytest.fixture
def rows(database_url: str) -> str:
    """Two users, and one task of alice's."""
    for user in ("alice", "bob"):
        insert(database_url, "users", id=user, created_at=TIME)
    insert(database_url, "tasks", **TASK | {"idempotency_key": "used", "idempotency_digest": b"d"})
    return database_url


@pytest.mark.parametrize(
    "different",
    [
        {"title": "x" * 200},
        {"title": "任" * 200},
        {"description": ""},
        {"description": "🎹" * 2000},
        {"is_completed": True},
        {"user_id": "bob"},
        {"idempotency_key": "k" * 255, "idempotency_digest": b"d"},
        {"idempotency_key": "other", "idempotency_digest": b"d"},
        {"idempotency_key": "used", "idempotency_digest": b"d", "user_id": "bob"},
    ],
)
def test_the_database_takes_a_task_that_keeps_the_rules(rows: str, different: dict[str, Any]) -> None:
    insert(rows, "tasks", **TASK | {"id": TASK_2} | different)
    assert run(rows, "SELECT count(*) FROM tasks") == [(2,)]


@pytest.mark.parametrize(
    "different",
    [
        {"title": ""},
        {"title": "x" * 201},
        {"title": None},
        {"description": "x" * 2001},
        {"user_id": "carol"},
        {"user_id": ""},
        {"user_id": None},
        {"id": TASK_1},
        {"id": TASK_1, "user_id": "bob"},
        {"id": None},
        {"is_completed": "maybe"},
        {"is_completed": "2"},
        {"is_completed": None},
        {"created_at": None},
        {"updated_at": None},
        {"idempotency_key": "other"},
        {"idempotency_digest": b"d"},
        {"idempotency_key": "used", "idempotency_digest": b"d"},
        {"idempotency_key": "used", "idempotency_digest": b"another"},
        {"idempotency_key": "", "idempotency_digest": b"d"},
        {"idempotency_key": "k" * 256, "idempotency_digest": b"d"},
    ],
)
def test_the_database_itself_refuses_a_task_that_breaks_a_rule(rows: str, different: dict[str, Any]) -> None:
    with pytest.raises((IntegrityError, DataError)):
        insert(rows, "tasks", **TASK | {"id": TASK_2} | different)
    assert run(rows, "SELECT count(*) FROM tasks") == [(1,)]


@pytest.mark.parametrize(
    ("column", "value"), [("title", ""), ("title", None), ("description", "x" * 2001), ("user_id", "carol")]
)
def test_the_database_itself_refuses_a_change_that_breaks_a_rule(rows: str, column: str, value: Any) -> None:
    with pytest.raises(IntegrityError):
        run(rows, f"UPDATE tasks SET {column} = :value", value=value)


def test_the_longest_user_id_is_stored(rows: str) -> None:
    insert(rows, "users", id="u" * 255, created_at=TIME)
    insert(rows, "tasks", **TASK | {"id": TASK_2, "user_id": "u" * 255})


@pytest.mark.parametrize(
    ("user", "time"), [("", TIME), ("u" * 256, TIME), (None, TIME), ("alice", TIME), ("carol", None)]
)
def test_the_database_itself_refuses_a_user_that_breaks_a_rule(rows: str, user: str | None, time: str | None) -> None:
    with pytest.raises(IntegrityError):
        insert(rows, "users", id=user, created_at=time)
    assert run(rows, "SELECT id FROM users ORDER BY id") == [("alice",), ("bob",)]


def test_deleting_a_user_deletes_their_tasks_and_no_others(rows: str) -> None:
    insert(rows, "tasks", **TASK | {"id": TASK_2, "user_id": "bob"})
    run(rows, "DELETE FROM users WHERE id = 'alice'")
    assert run(rows, "SELECT user_id FROM tasks") == [("bob",)]


def test_a_database_that_folds_ascii_letters_only_is_pointed_out(
    fresh_postgresql: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    url = make_url(fresh_postgresql)
    other = f"{url.database}_c"
    with engine_of(fresh_postgresql) as engine, engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(text(f"CREATE DATABASE {other} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'"))
        try:
            for there, warnings in ((url, 0), (url.set(database=other), 1)):
                with application(there.render_as_string(hide_password=False), tmp_path):
                    upgrade()
                assert capfd.readouterr().err.count("LC_CTYPE") == warnings
        finally:
            connection.execute(text(f"DROP DATABASE {other} WITH (FORCE)"))
