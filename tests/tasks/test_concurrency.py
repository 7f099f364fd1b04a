"""Simultaneous requests: threads with a client each, on one application. Also clocks that go wrong."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tests.conftest import Caller
from tests.support.databases import rows_of
from tests.support.tasks import Task, listed, path_of, task_in
from tests.support.threads import at_once
from todo_api.database import execution

ROUNDS = 25
WRITERS = 50
CREATORS = 20


def patched_at_once(app: Flask, path: str, bodies: list[Task]) -> list[Task]:
    """Send a PATCH for each body at the same time; return the tasks of the responses."""

    def patch(body: Task) -> Callable[[], TestResponse]:
        caller = Caller(app.test_client(), "alice")
        return lambda: caller.patch(path, json=body)

    return [task_in(answer) for answer in at_once([patch(body) for body in bodies])]


def created_at_once(app: Flask, user: str) -> list[TestResponse]:
    """Create a number of tasks at the same time; return the responses."""

    def create(title: str) -> Callable[[], TestResponse]:
        caller = Caller(app.test_client(), user)
        return lambda: caller.post("/api/tasks", json={"title": title})

    return at_once([create(f"task {number}") for number in range(CREATORS)])


def test_simultaneous_changes_of_different_fields_are_all_kept(app: Flask, alice: Caller) -> None:
    path = path_of(alice.create())
    for number in range(ROUNDS):
        wanted = {"title": f"title {number}", "description": f"description {number}", "is_completed": number % 2 == 0}
        answers = patched_at_once(app, path, [{name: value} for name, value in wanted.items()])
        assert [task[name] for task, name in zip(answers, wanted, strict=True)] == list(wanted.values())
        task = task_in(alice.get(path))
        assert {name: task[name] for name in wanted} == wanted


def test_simultaneous_writers_of_one_task_each_make_a_version(app: Flask, alice: Caller) -> None:
    task = alice.create()
    tasks = patched_at_once(app, path_of(task), [{"title": f"writer {number}"} for number in range(WRITERS)])
    versions = {written["updated_at"] for written in tasks}
    assert len(versions) == WRITERS
    assert min(versions) > task["updated_at"]
    assert {written["created_at"] for written in tasks} == {task["created_at"]}
    assert listed(alice) == [max(tasks, key=lambda written: str(written["updated_at"]))]


def test_simultaneous_first_tasks_are_all_stored_under_one_user(app: Flask, database_url: str) -> None:
    for user in ("carol", "dave", "erin"):
        assert {answer.status_code for answer in created_at_once(app, user)} == {201}
        assert rows_of(database_url, "SELECT count(*) FROM users WHERE id = :id", id=user) == [1]
        titles = rows_of(database_url, "SELECT title FROM tasks WHERE user_id = :id", id=user)
        assert sorted(titles) == sorted(f"task {number}" for number in range(CREATORS))


@pytest.mark.parametrize(
    ("stored", "following"),
    [
        ("2999-02-08T09:30:00.123456Z", ["2999-02-08T09:30:00.123457Z", "2999-02-08T09:30:00.123458Z"]),
        ("2999-12-31T23:59:59.999999Z", ["3000-01-01T00:00:00.000000Z", "3000-01-01T00:00:00.000001Z"]),
    ],
)
def test_versions_go_on_in_microseconds_from_one_in_the_future(
    alice: Caller, database_url: str, stored: str, following: list[str]
) -> None:
    """A clock that was set back leaves such versions."""
    path = path_of(alice.create())
    for table in ("users", "tasks"):
        rows_of(database_url, f"UPDATE {table} SET updated_at = :time", time=stored)
    for version in following:
        assert task_in(alice.patch(path, json={"is_completed": True}))["updated_at"] == version
    alice.patch("/api/tasks?is_completed=true", json={"is_completed": False})
    assert task_in(alice.get(path))["updated_at"] > following[-1]


def test_an_old_task_gets_the_current_time_as_its_version(alice: Caller, database_url: str) -> None:
    path = path_of(alice.create())
    rows_of(database_url, "UPDATE tasks SET updated_at = '2020-01-01T00:00:00.000000Z'")
    before = datetime.now(UTC) - timedelta(seconds=1)
    changed = task_in(alice.patch(path, json={"is_completed": True}))
    assert before < datetime.fromisoformat(changed["updated_at"]) < datetime.now(UTC) + timedelta(seconds=1)


@pytest.mark.sqlite_only
def test_changes_in_one_microsecond_get_different_versions(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = Caller(app.test_client(), "alice")
    task = alice.create()
    first = datetime.fromisoformat(task["updated_at"])

    class StoppedClock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return first.astimezone(tz)

    monkeypatch.setattr("todo_api.tasks.ownership.datetime", StoppedClock)
    changed = [task_in(alice.patch(path_of(task), json={"title": f"{number}"})) for number in range(3)]
    versions = [datetime.fromisoformat(written["updated_at"]) for written in changed]
    assert versions == [first + timedelta(microseconds=number) for number in (1, 2, 3)]


def test_creations_succeed_while_their_user_is_deleted(app: Flask, database_url: str) -> None:
    def delete() -> list[TestResponse]:
        for _ in range(30):
            rows_of(database_url, "DELETE FROM users WHERE id = 'alice'")
        return []

    def create() -> list[TestResponse]:
        alice = Caller(app.test_client(), "alice")
        return [alice.post("/api/tasks", json={"title": "x"}) for _ in range(30)]

    answers = [answer for answers in at_once([delete, create, create, create]) for answer in answers]
    assert {answer.status_code for answer in answers} == {201}


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_simultaneous_bulk_changes_never_deadlock(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = Caller(app.test_client(), "alice")
    for number in range(200):
        alice.create(f"Task {number}", is_completed=number % 7 % 2 == 0)
    failures, may_retry = [], execution.may_retry

    def recording(error: Exception, **options: Any) -> bool:
        failures.append(error)
        return may_retry(error, **options)

    monkeypatch.setattr(execution, "may_retry", recording)

    def mark(number: int) -> int:
        which, to = number % 2 == 0, number // 2 % 2 == 0
        path = f"/api/tasks?is_completed={str(which).lower()}"
        return Caller(app.test_client(), "alice").patch(path, json={"is_completed": to}).status_code

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(mark, range(160))) == {200}
    assert failures == []
