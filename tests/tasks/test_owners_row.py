"""The owner's row: the exact limit, and versions in the order of the writes."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text
from werkzeug.test import TestResponse

from tests.conftest import MISSING, Caller, MakeApp, assert_error
from tests.support.databases import engine_of, rows_of
from tests.support.tasks import Task, ids, listed, path_of, task_in
from tests.support.threads import at_once, wait_until
from todo_api.models import Deletion
from todo_api.tasks import OwnedTasks

LIMIT = 10
CREATORS = 32
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def job(app: Flask, method: str, path: str, **more: Any) -> Callable[[], TestResponse]:
    caller = Caller(app.test_client(), "alice")
    return lambda: caller(method, path, **more)


def creations(app: Flask, number: int, *, keyed: bool) -> list[Callable[[], TestResponse]]:
    keys = [{"Idempotency-Key": f"{one}"} if keyed else {} for one in range(number)]
    return [job(app, "POST", "/api/tasks", json={"title": "New"}, headers=headers) for headers in keys]


def count_of(database_url: str) -> Any:
    [count] = rows_of(database_url, "SELECT task_count FROM users WHERE id = 'alice'")
    return count


@pytest.fixture
def full(make_app: MakeApp) -> tuple[Flask, Caller]:
    app = make_app(MAX_TASKS_PER_USER=str(LIMIT))
    return app, Caller(app.test_client(), "alice")


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("free", [LIMIT, 1, 0])
def test_the_limit_holds_under_simultaneous_creations(
    full: tuple[Flask, Caller], database_url: str, free: int, keyed: bool
) -> None:
    app, alice = full
    for _ in range(LIMIT - free):
        alice.create()
    answers = at_once(creations(app, CREATORS, keyed=keyed))
    refused = [answer for answer in answers if answer.status_code != 201]
    for answer in refused:
        assert_error(answer, 422, "TASK_LIMIT_REACHED")
    assert len(refused) == CREATORS - free
    assert len(listed(alice)) == count_of(database_url) == LIMIT


@pytest.mark.parametrize("keyed", [False, True])
def test_the_limit_holds_while_tasks_are_deleted(full: tuple[Flask, Caller], database_url: str, keyed: bool) -> None:
    app, alice = full
    tasks = [alice.create(is_completed=number < 3) for number in range(LIMIT)]
    deletions = [job(app, "DELETE", path_of(task)) for task in (*tasks[3:6], *tasks[3:6])]
    deletions.append(job(app, "DELETE", "/api/tasks?is_completed=true"))
    answers = at_once([*creations(app, CREATORS, keyed=keyed), *deletions])
    created = [answer for answer in answers if answer.status_code == 201]
    assert sorted(answer.status_code for answer in answers[CREATORS:]) == [200, *[204] * 3, *[404] * 3]
    assert len(created) <= 6
    stored = len(listed(alice))
    assert stored == count_of(database_url) == LIMIT - 6 + len(created)
    for _ in range(LIMIT - stored):
        alice.create()
    assert_error(alice.post("/api/tasks", json={"title": "x"}), 422, "TASK_LIMIT_REACHED")


def test_a_count_that_is_not_known_is_taken_when_it_is_needed(full: tuple[Flask, Caller], database_url: str) -> None:
    app, alice = full
    tasks = [alice.create() for _ in range(LIMIT - 1)]
    for method, path, expected in (("DELETE", path_of(tasks[0]), LIMIT - 2), ("POST", "/api/tasks", LIMIT - 1)):
        rows_of(database_url, "UPDATE users SET task_count = NULL")
        assert alice(method, path, json={"title": "New"}).status_code < 300
        assert count_of(database_url) == expected
    rows_of(database_url, "UPDATE users SET task_count = NULL")
    answers = at_once(creations(app, CREATORS, keyed=False))
    assert sorted({answer.status_code for answer in answers}) == [201, 422]
    assert len(listed(alice)) == count_of(database_url) == LIMIT
    rows_of(database_url, "UPDATE users SET task_count = NULL")
    assert alice.delete("/api/tasks?is_completed=false").json == {"count": LIMIT}
    assert count_of(database_url) == 0


def test_every_write_has_a_later_version_than_all_before_it(alice: Caller, database_url: str) -> None:
    first, second = alice.create(), alice.create()
    etag = {"If-Match": f'"{first["updated_at"]}"'}
    written = [
        first,
        second,
        first := task_in(alice.patch(path_of(first), json={"title": "a"}, headers=etag)),
        task_in(alice.put(path_of(second), json={"title": "b"})),
        task_in(alice.patch(path_of(first), json={"title": "c"})),
    ]
    assert alice.patch("/api/tasks?is_completed=false", json={"is_completed": True}).json == {"count": 2}
    written.append(listed(alice)[0])
    assert alice.delete(path_of(first)).status_code == 204
    written.append(alice.create("Newest"))
    versions = [task["updated_at"] for task in written]
    assert versions == sorted(set(versions))
    assert rows_of(database_url, "SELECT count(*) FROM deletions") == [1]


def test_all_tasks_of_a_bulk_change_share_one_version(alice: Caller) -> None:
    for number in range(5):
        alice.create(is_completed=number == 0)
    alice.patch("/api/tasks?is_completed=false", json={"is_completed": True})
    versions = [task["updated_at"] for task in listed(alice)]
    assert [versions.count(version) for version in sorted(set(versions))] == [1, 4]


def test_a_write_that_changes_nothing_moves_nothing(alice: Caller, bob: Caller, database_url: str) -> None:
    task, foreign = alice.create(), bob.create()
    alice.post("/api/tasks", json={"title": "Once"}, headers={"Idempotency-Key": "1"})
    stale = {"If-Match": '"2026-02-08T09:30:00.123456Z"'}
    users = rows_of(database_url, "SELECT updated_at FROM users ORDER BY id")
    requests: list[tuple[str, str, dict[str, Any], int]] = [
        (method, path, {"json": {"title": "x"}, **more}, status)
        for method in ("PUT", "PATCH", "DELETE")
        for path, more, status in (
            (MISSING, {}, 404),
            (path_of(foreign), {}, 403),
            (path_of(foreign), {"headers": stale}, 403),
            (path_of(task), {"headers": stale}, 412),
        )
    ]
    requests += [
        ("PATCH", path_of(task), {"json": {}}, 200),
        ("PATCH", path_of(task), {"json": {}, "headers": stale}, 412),
        ("PATCH", "/api/tasks?is_completed=true", {"json": {"is_completed": False}}, 200),
        ("DELETE", "/api/tasks?is_completed=true", {}, 200),
        ("POST", "/api/tasks", {"json": {"title": "Once"}, "headers": {"Idempotency-Key": "1"}}, 201),
        ("POST", "/api/tasks", {"json": {"title": "Twice"}, "headers": {"Idempotency-Key": "1"}}, 422),
        ("GET", "/api/tasks", {}, 200),
        ("GET", "/api/tasks/changes", {}, 200),
    ]
    for method, path, more, status in requests:
        assert alice(method, path, **more).status_code == status, (method, path)
    assert rows_of(database_url, "SELECT updated_at FROM users ORDER BY id") == users


@pytest.mark.one_server
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_change_of_a_task_that_is_being_deleted_moves_nothing(app: Flask, alice: Caller, database_url: str) -> None:
    task = alice.create()
    with ThreadPoolExecutor() as pool, engine_of(database_url) as engine:
        with engine.begin() as deletion:
            deletion.execute(text("UPDATE users SET updated_at = now()"))
            deletion.execute(text("DELETE FROM tasks"))
            answer = pool.submit(job(app, "PATCH", path_of(task), json={"title": "x"}))
            wait_until(lambda: rows_of(database_url, WAITING) == [1])
            [version] = deletion.execute(text("SELECT updated_at FROM users")).scalars()
        assert_error(answer.result(), 404, "TASK_NOT_FOUND")
    assert rows_of(database_url, "SELECT updated_at FROM users") == [version]


def test_simultaneous_conditional_writes_of_one_version_let_one_through(app: Flask, alice: Caller) -> None:
    for method, more in (("PATCH", {"json": {"title": "x"}}), ("DELETE", {})):
        task: Task = alice.create()
        headers = {"If-Match": f'"{task["updated_at"]}"'}
        answers = at_once([job(app, method, path_of(task), headers=headers, **more) for _ in range(12)])
        statuses = sorted(answer.status_code for answer in answers)
        assert statuses[0] in (200, 204)
        assert set(statuses[1:]) <= {404, 412}


def test_a_deleted_task_leaves_its_id_and_a_time_alone(alice: Caller, database_url: str) -> None:
    tasks = [alice.create(is_completed=True) for _ in range(3)]
    assert alice.delete(path_of(tasks[0])).status_code == 204
    assert alice.delete("/api/tasks?is_completed=true").json == {"count": 2}
    assert rows_of(database_url, "SELECT CAST(task_id AS text) FROM deletions ORDER BY task_id") == ids(tasks)
    assert {*Deletion.__table__.columns.keys()} == {"user_id", "deleted_at", "task_id"}


def test_a_recount_while_tasks_are_written_counts_right(app: Flask, alice: Caller, database_url: str) -> None:
    def recount() -> list[TestResponse]:
        for _ in range(20):
            with app.app_context():
                OwnedTasks("alice").recount()
        return []

    def write() -> list[TestResponse]:
        caller = Caller(app.test_client(), "alice")
        made = [caller.create() for _ in range(20)]
        return [caller.delete(path_of(task)) for task in made[::2]]

    alice.create()
    answers = at_once([recount, write, write, write, write])
    assert {answer.status_code for found in answers for answer in found} == {204}
    assert count_of(database_url) == len(listed(alice)) == 41
