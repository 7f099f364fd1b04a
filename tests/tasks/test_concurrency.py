"""Requests that meet: real threads, each with a client of its own, on one application."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import make_url
from werkzeug.test import TestResponse

from tests.conftest import Caller, MakeApp, assert_error
from tests.support.databases import rows_of
from tests.support.threads import at_once
from todo_api.database import execution

ROUNDS = 25
WRITERS = 50
CREATORS = 20


def patches(app: Flask, path: str, bodies: list[dict[str, Any]]) -> list[Callable[[], TestResponse]]:
    """One PATCH for each body, each by a client of its own."""

    def patch(body: dict[str, Any]) -> Callable[[], TestResponse]:
        caller = Caller(app.test_client(), "alice")
        return lambda: caller.patch(path, json=body)

    return [patch(body) for body in bodies]


def creations(app: Flask, number: int, user: str = "alice") -> list[Callable[[], TestResponse]]:
    def create(title: str) -> Callable[[], TestResponse]:
        caller = Caller(app.test_client(), user)
        return lambda: caller.post("/api/tasks", json={"title": title})

    return [create(f"task {count}") for count in range(number)]


def test_clients_that_change_different_fields_at_the_same_time_all_keep_their_change(app: Flask, alice: Caller) -> None:
    path = f"/api/tasks/{alice.create()['id']}"
    for count in range(ROUNDS):
        wanted = {"title": f"title {count}", "description": f"description {count}", "is_completed": count % 2 == 0}
        answers = at_once(patches(app, path, [{name: value} for name, value in wanted.items()]))
        assert [answer.status_code for answer in answers] == [200] * len(wanted)
        task: Any = alice.get(path).json
        assert {name: task[name] for name in wanted} == wanted
        for (name, value), answer in zip(wanted.items(), answers, strict=True):
            assert answer.json is not None
            assert answer.json[name] == value


def test_simultaneous_first_tasks_make_one_user_and_lose_no_task(app: Flask, database_url: str) -> None:
    for newcomer in ("carol", "dave", "erin"):
        answers = at_once(creations(app, CREATORS, newcomer))
        assert [answer.status_code for answer in answers] == [201] * CREATORS
        assert rows_of(database_url, "SELECT count(*) FROM users WHERE id = :id", id=newcomer) == [1]
        titles = rows_of(database_url, "SELECT title FROM tasks WHERE user_id = :id", id=newcomer)
        assert sorted(titles) == sorted(f"task {count}" for count in range(CREATORS))


def test_every_one_of_many_simultaneous_writers_makes_a_version_of_its_own(app: Flask, alice: Caller) -> None:
    created = alice.create()
    path = f"/api/tasks/{created['id']}"
    answers = at_once(patches(app, path, [{"title": f"writer {count}"} for count in range(WRITERS)]))
    assert [answer.status_code for answer in answers] == [200] * WRITERS
    tasks: list[Any] = [answer.json for answer in answers]
    versions = [task["updated_at"] for task in tasks]
    assert len({created["updated_at"], *versions}) == WRITERS + 1
    assert min(versions) > created["updated_at"]
    assert {task["created_at"] for task in tasks} == {created["created_at"]}
    # The last writer has the greatest version: what is stored is what that answer said.
    assert alice.get(path).json == max(tasks, key=lambda task: str(task["updated_at"]))


def test_simultaneous_creations_pass_the_limit_by_fewer_than_there_are_and_the_next_is_refused(
    make_app: MakeApp, database_url: str
) -> None:
    limit = 5
    app = make_app(MAX_TASKS_PER_USER=str(limit))
    alice = Caller(app.test_client(), "alice")
    for _ in range(limit - 1):
        alice.create()
    answers = at_once(creations(app, CREATORS))
    made = [answer for answer in answers if answer.status_code == 201]
    for answer in answers:
        if answer not in made:
            assert_error(answer, 422, "TASK_LIMIT_REACHED")
    [stored] = rows_of(database_url, "SELECT count(*) FROM tasks WHERE user_id = 'alice'")
    assert stored == limit - 1 + len(made)
    assert limit <= stored <= limit + CREATORS - 1
    assert_error(alice.post("/api/tasks", json={"title": "one more"}), 422, "TASK_LIMIT_REACHED")


def test_no_simultaneous_creation_gets_in_once_the_limit_is_reached(make_app: MakeApp, database_url: str) -> None:
    app = make_app(MAX_TASKS_PER_USER="2")
    alice, bob = (Caller(app.test_client(), user) for user in ("alice", "bob"))
    for _ in range(2):
        alice.create()
    for answer in at_once(creations(app, CREATORS)):
        assert_error(answer, 422, "TASK_LIMIT_REACHED")
    assert rows_of(database_url, "SELECT count(*) FROM tasks") == [2]
    bob.create()  # the limit is each user's own


@pytest.mark.parametrize(
    ("stored", "following"),
    [
        ("2999-02-08T09:30:00.123456Z", ["2999-02-08T09:30:00.123457Z", "2999-02-08T09:30:00.123458Z"]),
        ("2999-12-31T23:59:59.999999Z", ["3000-01-01T00:00:00.000000Z", "3000-01-01T00:00:00.000001Z"]),
    ],
)
def test_a_task_from_the_future_gets_versions_one_microsecond_apart(
    alice: Caller, database_url: str, stored: str, following: list[str]
) -> None:
    """So it looks after a clock has been set back."""
    path = f"/api/tasks/{alice.create()['id']}"
    rows_of(database_url, "UPDATE tasks SET updated_at = :time", time=stored)
    for version in following:
        task: Any = alice.patch(path, json={"is_completed": True}).json
        assert task["updated_at"] == version


def test_a_task_of_the_past_gets_the_time_now(alice: Caller, database_url: str) -> None:
    path = f"/api/tasks/{alice.create()['id']}"
    rows_of(database_url, "UPDATE tasks SET updated_at = '2020-01-01T00:00:00.000000Z'")
    before = datetime.now(UTC) - timedelta(seconds=1)
    task: Any = alice.patch(path, json={"is_completed": True}).json
    assert before < datetime.fromisoformat(task["updated_at"]) < datetime.now(UTC) + timedelta(seconds=1)


@pytest.mark.parametrize("set_back_by", [timedelta(0), timedelta(seconds=1), timedelta(days=400)])
def test_a_clock_that_stands_still_or_is_set_back_makes_later_versions_still(
    app: Flask, database_url: str, monkeypatch: pytest.MonkeyPatch, set_back_by: timedelta
) -> None:
    alice = Caller(app.test_client(), "alice")
    created = alice.create()
    first = datetime.fromisoformat(created["updated_at"])

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return (first - set_back_by).astimezone(tz)

    monkeypatch.setattr("todo_api.tasks.ownership.datetime", Clock)
    versions = []
    for count in range(3):
        task: Any = alice.patch(f"/api/tasks/{created['id']}", json={"title": f"change {count}"}).json
        versions.append(datetime.fromisoformat(task["updated_at"]))
    assert [first, *versions] == sorted({first, *versions})
    if make_url(database_url).get_backend_name() == "sqlite":  # PostgreSQL asks its own clock
        assert versions == [first + timedelta(microseconds=count) for count in (1, 2, 3)]


def test_creating_while_the_user_is_deleted_neither_fails_nor_meets_a_limit(app: Flask, database_url: str) -> None:
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
def test_changes_of_many_tasks_at_the_same_time_never_wait_for_each_other_in_a_circle(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = Caller(app.test_client(), "alice")
    for number in range(200):
        alice.create(f"Task {number}", is_completed=number % 7 % 2 == 0)

    refused, may_retry = [], execution.may_retry

    def noted(error: Exception, **options: Any) -> bool:
        refused.append(error)
        return may_retry(error, **options)

    monkeypatch.setattr(execution, "may_retry", noted)

    def mark(number: int) -> int:
        which, to = number % 2 == 0, number // 2 % 2 == 0
        path = f"/api/tasks?is_completed={str(which).lower()}"
        return Caller(app.test_client(), "alice").patch(path, json={"is_completed": to}).status_code

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(mark, range(160))) == {200}
    assert refused == []
