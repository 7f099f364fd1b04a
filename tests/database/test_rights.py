"""The roles of docs/deploy.md: their rights suffice, and each is needed. The tests of the routes use the service's."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from flask import Flask
from sqlalchemy import make_url, text

from tests.conftest import MISSING, Caller, dispose, environ_for
from tests.database.test_migrations import flask_db
from tests.support.databases import MIGRATIONS, SERVICE, as_role, documented_statements, engine_of, rows_of
from tests.support.tasks import path_of, task_in
from todo_api import create_app

RIGHTS = [
    (right, found[2])
    for statement in documented_statements()
    if (found := re.match(rf"GRANT (.+) ON (\w+) TO {SERVICE}", statement))
    for right in found[1].split(", ")
]


class Installation(NamedTuple):
    """A database made as docs/deploy.md says. Each URL has the rights of one role only."""

    service: str
    migrations: str
    role: str


def named(statement: str, name: str) -> str:
    """Return a documented statement for a database and roles that are this test's alone."""
    mine = statement.replace("DATABASE todo ", f"DATABASE {name} ")
    return mine.replace(SERVICE, f"{name}_service").replace(MIGRATIONS, f"{name}_migrations")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation whose migrations and grants have run."""
    name, server = f"todo_test_rights_{os.getpid()}", os.environ["TODO_TEST_SERVER"]
    url = make_url(server).set(database=name).render_as_string(hide_password=False)
    with engine_of(server, isolation_level="AUTOCOMMIT") as engine, engine.connect() as connection:
        try:
            for statement in documented_statements():
                if statement.startswith("CREATE"):
                    connection.execute(text(named(statement, name)))
                elif SERVICE not in statement:
                    rows_of(url, named(statement, name))
            migrations = as_role(url, f"{name}_migrations")
            command = flask_db(migrations, tmp_path_factory.mktemp("rights"), "upgrade")
            output, _ = command.communicate(timeout=60)
            assert command.returncode == 0, output
            for statement in documented_statements():
                if statement.startswith("GRANT") and SERVICE in statement:
                    rows_of(url, f"SET LOCAL ROLE {name}_migrations; {named(statement, name)}")
            yield Installation(as_role(url, f"{name}_service"), migrations, f"{name}_service")
        finally:
            connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            for role in (f"{name}_service", f"{name}_migrations"):
                connection.execute(text(f"DROP ROLE IF EXISTS {role}"))


def answers_of_every_route(app: Flask) -> dict[str, int]:
    """Use every route and every command on tasks once; return the statuses."""
    alice, bob = (Caller(app.test_client(), user) for user in ("alice", "bob"))
    seen = {"ready": alice.get("/health/ready").status_code}
    created = alice.post("/api/tasks", json={"title": "x"}, headers={"Idempotency-Key": "1"})
    seen["create"] = created.status_code
    path = path_of(task_in(created, 201)) if created.status_code == 201 else MISSING
    requests: list[tuple[Caller, str, str, dict[str, Any]]] = [
        (alice, "POST", "/api/tasks", {"json": {"title": "x"}, "headers": {"Idempotency-Key": "1"}}),
        (alice, "GET", "/api/tasks?q=x&include_total=true&sort=title", {}),
        (alice, "GET", "/api/tasks/changes", {}),
        (alice, "GET", path, {}),
        (bob, "GET", path, {}),
        (alice, "PUT", path, {"json": {"title": "y"}}),
        (alice, "PATCH", path, {"json": {"title": "y"}, "headers": {"If-Match": "*"}}),
        (alice, "PATCH", path, {"json": {"title": "y"}, "headers": {"If-Match": '"stale"'}}),
        (alice, "PATCH", "/api/tasks?is_completed=false", {"json": {"is_completed": True}}),
        (alice, "DELETE", path, {}),
        (alice, "POST", "/api/tasks", {"json": {"title": "x"}}),
        (alice, "DELETE", "/api/tasks?is_completed=false", {}),
    ]
    for number, (caller, method, target, more) in enumerate(requests):
        seen[f"{number} {method}"] = caller(method, target, **more).status_code
    runner = app.test_cli_runner()
    seen["recount"] = runner.invoke(args=["recount"]).exit_code
    seen["user-delete"] = runner.invoke(args=["user-delete", "alice", "--yes"]).exit_code
    return seen


def test_the_documented_rights_suffice(installed: Installation, tmp_path: Path) -> None:
    app = create_app(environ_for(installed.service), tmp_path)
    seen = answers_of_every_route(app)
    expected = [200, 201, 201, 200, 200, 200, 403, 200, 200, 412, 200, 204, 201, 200, 0, 0]
    assert [*seen.values()] == expected, seen
    dispose(app)


@pytest.mark.parametrize(("right", "table"), RIGHTS)
def test_each_documented_right_is_needed(installed: Installation, tmp_path: Path, right: str, table: str) -> None:
    app = create_app(environ_for(installed.service), tmp_path)
    rows_of(installed.service, "DELETE FROM users")
    rows_of(installed.service, f"REVOKE {right} ON {table} FROM {installed.role}")
    try:
        seen = answers_of_every_route(app)
        assert {500, 503, 1} & {*seen.values()}, f"{right} on {table} is not needed"
    finally:
        rows_of(installed.service, f"GRANT {right} ON {table} TO {installed.role}")
        dispose(app)


def test_the_service_can_change_no_table(installed: Installation) -> None:
    rights = "SELECT has_schema_privilege(:role, 'public', 'CREATE')"
    assert rows_of(installed.service, rights, role=installed.role) == [False]
