"""No migration rewrites a table that has rows.

A prepared statement that waits for the lock of the table has a snapshot from before the wait. PostgreSQL shows it the
rewritten table, all of whose rows are newer: a list is empty, and a task seems to be another user's.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from flask_migrate import upgrade
from sqlalchemy import text

from tests.conftest import Caller, dispose, environ_for
from tests.database.test_migrations import application, waits
from tests.support.databases import engine_of, rows_of
from tests.support.tasks import path_of
from tests.support.threads import wait_until
from todo_api import create_app
from todo_api.telemetry.health import revisions

FILES = (
    "SELECT relname || ' ' || pg_relation_filenode(oid) FROM pg_class"
    " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
)

pytestmark = pytest.mark.slow
FILL = {  # with the columns that every revision knows, as an older release writes them
    "users": "INSERT INTO users (id, created_at) SELECT 'user' || n, now() FROM generate_series(1, 3) n",
    "tasks": "INSERT INTO tasks (user_id, id, title, is_completed, created_at, updated_at)"
    " SELECT 'user' || n, gen_random_uuid(), 'Task', false, now(), now() FROM generate_series(1, 3) n",
    "deletions": "INSERT INTO deletions (user_id, deleted_at, task_id)"
    " SELECT 'user' || n, now(), gen_random_uuid() FROM generate_series(1, 3) n",
}
REWRITE = "ALTER TABLE tasks ADD COLUMN random uuid DEFAULT gen_random_uuid()"


def fill(url: str) -> None:
    """Give every table rows that exists and is empty."""
    tables = {entry.split()[0] for entry in rows_of(url, FILES)} - {"alembic_version"}
    assert tables <= {*FILL}, "add the new table to FILL"
    for table, statement in FILL.items():
        if table in tables and rows_of(url, f"SELECT count(*) FROM {table}") == [0]:
            rows_of(url, statement)


def rewritten_by(url: str, action: Callable[[], Any]) -> list[str]:
    """Return the tables whose file the action replaces."""
    fill(url)
    before = {*rows_of(url, FILES)}
    action()
    return sorted(entry.split()[0] for entry in before - {*rows_of(url, FILES)})


def test_no_migration_rewrites_a_table_that_has_rows(fresh_database: Callable[[str], str], tmp_path: Path) -> None:
    url = fresh_database("rewrites")
    with application(url, tmp_path):
        for revision in revisions():
            rewritten = rewritten_by(url, partial(upgrade, revision=revision))
            assert rewritten == [], f"{revision} rewrites tables: see CONTRIBUTING.md, Conventions"


@pytest.mark.parametrize("change", [REWRITE, "ALTER TABLE tasks ALTER COLUMN id TYPE text", "TRUNCATE tasks"])
def test_a_rewrite_is_recognized(migrated_database: Callable[[str], str], change: str) -> None:
    url = migrated_database("rewritten")
    assert rewritten_by(url, partial(rows_of, url, change)) == ["tasks"]


@contextmanager
def rewriting(url: str) -> Iterator[Any]:
    """Rewrite the table of tasks in a transaction; yield a function that commits."""
    with engine_of(url) as engine, engine.connect() as connection:
        connection.execute(text(REWRITE))
        yield connection.commit


@pytest.mark.parametrize("if_match", [False, True])
@pytest.mark.parametrize(
    ("method", "more", "status"),
    [("GET", {}, 200), ("PATCH", {"json": {"title": "New"}}, 200), ("PATCH", {"json": {}}, 200), ("DELETE", {}, 204)],
)
def test_a_request_for_an_own_task_that_waits_for_a_rewrite_is_late_and_right(
    migrated_database: Callable[[str], str],
    tmp_path: Path,
    method: str,
    more: dict[str, Any],
    status: int,
    if_match: bool,
) -> None:
    url = migrated_database("waiting")
    app = create_app(environ_for(url), tmp_path)
    alice = Caller(app.test_client(), "alice")
    tasks = [alice.create() for _ in range(2)]
    headers = [{"If-Match": f'"{task["updated_at"]}"'} if if_match else {} for task in tasks]
    prepared = alice(method, path_of(tasks[0]), headers=headers[0], **more)
    assert prepared.status_code == status
    with ThreadPoolExecutor(1) as thread:
        with rewriting(url) as commit:
            answer = thread.submit(alice, method, path_of(tasks[1]), headers=headers[1], **more)
            wait_until(partial(waits, 1, url))
            commit()
        assert answer.result().status_code == status, answer.result().text
    dispose(app)
