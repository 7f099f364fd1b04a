"""The commands `flask token` and `flask user-delete`, and the names that `flask shell` offers."""

from pathlib import Path
from typing import Any

import jwt
import pytest
from click.testing import Result
from flask import Flask

from tests.conftest import Caller, MakeApp, assert_error, dispose, environ_for
from tests.support.databases import rows_of
from todo_api import create_app
from todo_api.database import execution
from todo_api.extensions import db
from todo_api.models import Task, User
from todo_api.tasks.ownership import OwnedTasks

DEVELOPMENT = {"ENVIRONMENT": "development", "BETTER_AUTH_SECRET": ""}


def run(app: Flask, *arguments: str, answer: str = "") -> Result:
    result: Result = app.test_cli_runner().invoke(args=arguments, input=answer)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def assert_refused(result: Result, *words: str) -> None:
    """Check for a failure status, an error message and no output."""
    assert result.exit_code != 0
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    for word in words:
        assert word in result.stderr.splitlines()[-1]


def stored(url: str) -> tuple[list[str], list[str]]:
    """Return the ids of the users and the owners of the tasks."""
    owners = "SELECT user_id FROM tasks ORDER BY user_id"
    return rows_of(url, "SELECT id FROM users ORDER BY id"), rows_of(url, owners)


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    ("user", "settings"),
    [
        ("alice", {}),
        ("Ünïcode 用户", {"JWT_ISSUER": "https://app.example.com", "JWT_AUDIENCE": "https://api.example.com"}),
        ("a" * 255, {"JWT_ALGORITHM": "HS384"}),
    ],
)
def test_the_service_accepts_the_token_it_prints(make_app: MakeApp, user: str, settings: dict[str, str]) -> None:
    app = make_app(**DEVELOPMENT, **settings)
    printed = run(app, "token", user)
    assert printed.exit_code == 0
    assert printed.stderr == ""
    [token] = printed.stdout.splitlines()
    headers = {"Authorization": f"Bearer {token}"}
    created: Any = app.test_client().post("/api/tasks", headers=headers, json={"title": "Mine"})
    assert created.status_code == 201
    assert created.json["user_id"] == user


@pytest.mark.sqlite_only
@pytest.mark.parametrize(("options", "minutes"), [((), 1440), (("--minutes=1",), 1)])
def test_a_token_is_valid_for_the_requested_time(make_app: MakeApp, options: tuple[str, ...], minutes: int) -> None:
    token = run(make_app(**DEVELOPMENT), "token", "alice", *options).stdout.strip()
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == minutes * 60


@pytest.mark.sqlite_only
@pytest.mark.parametrize("minutes", ["0", "soon", "525601"])
def test_an_invalid_time_to_expiry_is_rejected(make_app: MakeApp, minutes: str) -> None:
    assert_refused(run(make_app(**DEVELOPMENT), "token", "alice", f"--minutes={minutes}"), "--minutes")


@pytest.mark.parametrize("environment", ["staging", "production"])
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_no_token_is_made_outside_development(make_app: MakeApp, environment: str) -> None:
    assert_refused(run(make_app(ENVIRONMENT=environment), "token", "alice"), "development", "ENVIRONMENT")


@pytest.mark.sqlite_only
def test_no_token_is_made_with_a_configured_secret(make_app: MakeApp) -> None:
    assert_refused(run(make_app(ENVIRONMENT="development"), "token", "alice"), "BETTER_AUTH_SECRET")


@pytest.mark.sqlite_only
@pytest.mark.parametrize("command", [("token",), ("user-delete", "--yes")])
@pytest.mark.parametrize("user", ["", "a" * 256, "a\0b", "a\udcffb"])
def test_a_user_id_that_no_token_can_hold_is_rejected(make_app: MakeApp, command: tuple[str, ...], user: str) -> None:
    assert_refused(run(make_app(**DEVELOPMENT), *command, user), "for 'USER': must have 1 to 255 characters")


@pytest.mark.parametrize(
    ("user", "options", "answer"), [("alice", (), "y\n"), ("%", ("--yes",), ""), ("o'brien", ("--yes",), "")]
)
def test_deleting_a_user_deletes_their_tasks_only(
    app: Flask, bob: Caller, database_url: str, user: str, options: tuple[str, ...], answer: str
) -> None:
    caller = Caller(app.test_client(), user)
    caller.create()
    caller.create()
    kept = bob.create()
    result = run(app, "user-delete", user, *options, answer=answer)
    assert result.exit_code == 0
    assert ("[y/N]" in result.stdout) == (not options)
    assert repr(user) in result.stdout
    assert stored(database_url) == (["bob"], ["bob"])
    assert bob.get("/api/tasks").json == [kept]
    assert caller.get("/api/tasks").json == []


@pytest.mark.parametrize("answer", ["n\n", ""])
def test_a_user_is_kept_unless_the_deletion_is_confirmed(
    app: Flask, alice: Caller, database_url: str, answer: str
) -> None:
    task = alice.create()
    result = run(app, "user-delete", "alice", answer=answer)
    assert result.exit_code == 1
    assert "'alice'" in result.stdout
    assert stored(database_url) == (["alice"], ["alice"])
    assert alice.get("/api/tasks").json == [task]


def test_an_unknown_user_cannot_be_deleted(app: Flask, alice: Caller, database_url: str) -> None:
    alice.create()
    assert_refused(run(app, "user-delete", "Alice", "--yes"), "there is no user 'Alice'")
    assert stored(database_url) == (["alice"], ["alice"])


def test_recount_makes_right_what_older_code_has_written(
    app: Flask, alice: Caller, bob: Caller, database_url: str
) -> None:
    """It writes tasks without moving their owner's row, and a clock that was set back leaves times in the future."""
    task, future = alice.create(), "2999-02-08T09:30:00.123456Z"
    bob.create()
    etag = alice.get("/api/tasks").headers["ETag"]
    copy: Any = alice.get("/api/tasks/changes").json
    rows_of(database_url, "UPDATE tasks SET title = 'Old code', updated_at = :at WHERE user_id = 'alice'", at=future)
    rows_of(database_url, "UPDATE users SET task_count = 7")
    result = run(app, "recount")
    assert (result.exit_code, result.stdout) == (0, "Counted the tasks of 2 users.\n")
    assert rows_of(database_url, "SELECT task_count FROM users") == [1, 1]
    [listed] = alice.get("/api/tasks", headers={"If-None-Match": etag}).json or []
    assert listed["title"] == "Old code"
    assert_error(alice.get("/api/tasks/changes", query_string={"since": copy["next"]}), 410, "CHANGES_EXPIRED")
    changed: Any = alice.patch(f"/api/tasks/{task['id']}", json={"title": "New"}).json
    assert changed["updated_at"] > future
    copy = alice.get("/api/tasks/changes").json
    assert copy["tasks"] == [changed]


def test_an_unreachable_database_is_reported_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "RETRY_WINDOW", 0.1)
    app = create_app(environ_for("postgresql://todo:pa55word@127.0.0.1:1/todo"), tmp_path)
    for command in (("user-delete", "alice", "--yes"), ("recount",)):
        result = run(app, *command)
        assert_refused(result, "database")
        assert "pa55word" not in result.stderr
        assert "Traceback" not in result.stderr
    dispose(app)


def test_the_shell_provides_the_models_and_the_owner_scoped_helper(app: Flask, alice: Caller) -> None:
    task = alice.create()
    with app.app_context():
        names = app.make_shell_context()
        assert (names["db"], names["User"], names["Task"], names["OwnedTasks"]) == (db, User, Task, OwnedTasks)
        assert task["id"] in repr(names["OwnedTasks"]("alice").list())
        assert task["id"] not in repr(names["OwnedTasks"]("bob").list())
        assert names["db"].session.get(names["Task"], ("alice", task["id"])).title == task["title"]


@pytest.mark.sqlite_only
def test_the_commands_are_listed(make_app: MakeApp) -> None:
    listed = run(make_app(), "--help").stdout
    for command in ("db", "token", "user-delete"):
        assert f" {command} " in listed
