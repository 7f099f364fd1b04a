"""A restore with `pg_restore --clean` under a running service: for a while the tables have no constraints."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Caller, assert_error, dispose, environ_for, in_process
from tests.support.databases import rows_of
from tests.support.statements import recorded
from tests.support.tasks import task_in
from tests.support.threads import at_once
from todo_api import create_app
from todo_api.tasks.ownership import MAX_ATTEMPTS

DROPS = (
    "ALTER TABLE tasks DROP CONSTRAINT fk_tasks_user_id_users, DROP CONSTRAINT pk_tasks",
    "ALTER TABLE deletions DROP CONSTRAINT fk_deletions_user_id_users, DROP CONSTRAINT pk_deletions",
    "ALTER TABLE users DROP CONSTRAINT pk_users",
    "DROP INDEX ix_tasks_idempotency_key, ix_tasks_id",
)
COPY_USERS = "INSERT INTO users SELECT * FROM users"  # the restore adds the row that the service has made meanwhile
FORGET_TASKS = (
    "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    "CREATE TRIGGER nothing BEFORE INSERT ON {} FOR EACH ROW EXECUTE FUNCTION nothing()",
)
NUMBER = 16


@pytest.fixture
def url(migrated_database: Callable[[str], str]) -> str:
    """The URL of a database without constraints."""
    url = migrated_database("constraints")
    for statement in DROPS:
        rows_of(url, statement)
    return url


@pytest.fixture(params=["10000", "12"])
def alice(url: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Caller]:
    app = in_process(create_app(environ_for(url, MAX_TASKS_PER_USER=request.param), tmp_path))
    yield Caller(app.test_client(), "alice")
    dispose(app)


@pytest.mark.parametrize("is_restored", [False, True])
@pytest.mark.parametrize("keyed", [False, True])
def test_a_creation_without_constraints_stores_one_task(
    alice: Caller, url: str, keyed: bool, is_restored: bool
) -> None:
    alice.create()
    if is_restored:
        rows_of(url, COPY_USERS)
    creations: list[Callable[[], Any]] = []
    for number in range(NUMBER):
        caller = Caller(alice.client.application.test_client(), "alice")
        headers = {"Idempotency-Key": str(number // 2)} if keyed else {}
        creations.append(partial(caller.post, "/api/tasks", json={"title": "x"}, headers=headers))
    answers = at_once(creations)
    assert {answer.status_code for answer in answers} <= {201, 422}
    made = {task_in(answer, 201)["id"] for answer in answers if answer.status_code == 201}
    stored = rows_of(url, "SELECT DISTINCT CAST(id AS text) FROM tasks")
    assert made < {*stored}
    assert len(stored) == len(made) + 1


@pytest.mark.parametrize("table", ["users", "tasks"])
@pytest.mark.parametrize("keyed", [False, True])
def test_a_creation_that_never_succeeds_ends(alice: Caller, url: str, table: str, keyed: bool) -> None:
    for statement in FORGET_TASKS:
        rows_of(url, statement.format(table))
    with recorded(alice.client.application) as statements:
        headers = {"Idempotency-Key": "1"} if keyed else {}
        said = alice.post("/api/tasks", json={"title": "x"}, headers=headers)
    assert_error(said, 503, "DATABASE_UNAVAILABLE")
    assert len(statements) <= 4 * MAX_ATTEMPTS
    assert rows_of(url, "SELECT id FROM tasks") == []
