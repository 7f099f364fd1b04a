"""Safe retries: creations under one Idempotency-Key make one task."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tests.conftest import Caller, MakeApp, assert_error
from tests.support.databases import rows_of
from tests.support.tasks import Task, assert_invalid, listed, path_of, task_in
from tests.support.threads import at_once

CALLERS = 50
BODY = {"title": "Buy milk"}


def send(caller: Caller, key: Any = "key", body: Any = None) -> TestResponse:
    return caller.post("/api/tasks", json=BODY if body is None else body, headers={"Idempotency-Key": key})


def created(response: TestResponse, *, replayed: bool = False) -> Task:
    """Return the task of a response 201, after checking its headers."""
    task = task_in(response, 201)
    assert response.headers["Location"] == path_of(task)
    assert response.headers.getlist("Idempotency-Replayed") == (["true"] if replayed else [])
    return task


@pytest.mark.parametrize("limit", ["0", "10000"])
def test_a_creation_sent_again_returns_the_task_it_made(make_app: MakeApp, limit: str) -> None:
    alice = Caller(make_app(MAX_TASKS_PER_USER=limit).test_client(), "alice")
    task = created(send(alice))
    for _ in range(2):
        assert created(send(alice), replayed=True) == task
    assert listed(alice) == [task]


def test_each_key_makes_a_task_and_so_does_each_creation_without_one(alice: Caller) -> None:
    keys = ("key", "Key", "key2", "ke", "'", "%", "_", "\\", "x" * 255, '!"#$&()*+-./09:;<=>?@[]^`{|}~')
    tasks = {key: created(send(alice, key)) for key in keys}
    for key, task in tasks.items():
        assert created(send(alice, key), replayed=True) == task
    for _ in range(2):
        alice.create("Buy milk")
    assert len({task["id"] for task in listed(alice)}) == len(keys) + 2


@pytest.mark.sqlite_only
@pytest.mark.parametrize("key", ["", " ", "x" * 256, "a b", " a", "a,b", "\x1f", "\x7f", "é", ["a", "a"], ["a", ""]])
def test_a_malformed_or_repeated_key_is_rejected_by_name(alice: Caller, key: Any) -> None:
    assert assert_invalid(send(alice, key), "Idempotency-Key") == {
        "Idempotency-Key": ["Must be one value of 1 to 255 visible ASCII characters, no comma."]
    }
    assert listed(alice) == []


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    "more",
    [
        {"title": " \t Buy milk\u2003\n"},
        {"description": None, "is_completed": False},
        {"due_date": None, "priority": None, "tags": []},
        {"id": 1, "user_id": "bob", "completed_at": True},
    ],
)
def test_bodies_that_ask_for_the_same_task_are_the_same(alice: Caller, more: Task) -> None:
    for key, first, second in (("a", BODY, BODY | more), ("b", BODY | more, BODY)):
        task = created(send(alice, key, first))
        assert created(send(alice, key, second), replayed=True) == task
        assert created(send(alice, key, dict(reversed(task.items()))), replayed=True) == task


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    "more",
    [
        *({"title": "buy milk"}, {"description": ""}, {"description": "None"}, {"is_completed": True}),
        *(
            {"due_date": "2026-02-08"},
            {"priority": "low"},
            {"tags": ["low"]},
            {"tags": ["a", "b"]},
            {"tags": ["b", "a"]},
        ),
    ],
)
def test_a_key_with_another_body_is_rejected(alice: Caller, more: Task) -> None:
    task = created(send(alice))
    assert_error(send(alice, body=BODY | more), 422, "IDEMPOTENCY_KEY_REUSED")
    assert listed(alice) == [task]
    assert created(send(alice), replayed=True) == task


@pytest.mark.sqlite_only
def test_bodies_with_other_values_in_new_fields_are_different(alice: Caller) -> None:
    more: list[Task] = [{"due_date": "2026-02-08"}, {"priority": "low"}, {"tags": ["a", "b"]}, {"tags": ["b", "a"]}]
    for number, fields in enumerate(more):
        task = created(send(alice, f"{number}", BODY | fields))
        assert created(send(alice, f"{number}", BODY | fields), replayed=True) == task
        for other in ({}, *more):
            if other != fields:
                assert_error(send(alice, f"{number}", BODY | other), 422, "IDEMPOTENCY_KEY_REUSED")
    spelled = created(send(alice, "tags", BODY | {"tags": ["a", "b"]}))
    assert created(send(alice, "tags", BODY | {"tags": [" a ", "b\n", "a"]}), replayed=True) == spelled


@pytest.mark.parametrize("more", [{}, {"description": "2 l"}, {"description": "é", "is_completed": True}])
def test_a_retry_from_before_a_field_was_added_still_matches(
    alice: Caller, database_url: str, more: dict[str, Any]
) -> None:
    """The code of then knew three fields, and made the digest of them."""
    body = {"title": "Buy milk", "description": None, "is_completed": False, **more}
    task = created(send(alice, body=body))
    digest = hashlib.sha256(json.dumps(body).encode()).digest()
    assert [bytes(stored) for stored in rows_of(database_url, "SELECT idempotency_digest FROM tasks")] == [digest]
    defaults: Task = {"due_date": None, "priority": None, "tags": []}
    for sent in ({}, {"due_date": None}, defaults):
        assert created(send(alice, body=body | sent), replayed=True) == task
    for added in ({"due_date": "2026-02-08"}, {"priority": "low"}, {"tags": ["a"]}):
        assert_error(send(alice, body=body | added), 422, "IDEMPOTENCY_KEY_REUSED")


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        ({"data": "{}", "content_type": "text/plain"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
        ({"data": "{", "content_type": "application/json"}, 400, "MALFORMED_JSON"),
        ({"json": {"title": ""}}, 400, "VALIDATION_ERROR"),
    ],
)
def test_a_rejected_request_does_not_use_up_its_key(
    alice: Caller, nobody: Caller, more: dict[str, Any], status: int, code: str
) -> None:
    for key in ("a,b", "good"):
        refused = alice.post("/api/tasks", headers={"Idempotency-Key": key}, **more)
        assert "Idempotency-Key" not in assert_error(refused, status, code).get("errors", {})
    assert_error(send(nobody, "a,b"), 401, "TOKEN_MISSING")
    created(send(alice, "good"))


@pytest.mark.sqlite_only
def test_other_methods_ignore_the_key(alice: Caller) -> None:
    path = path_of(created(send(alice)))
    for key in ("key", "a,b"):
        headers = {"Idempotency-Key": key}
        for target in ("/api/tasks", path):
            assert alice.get(target, headers=headers).status_code == 200
        for title in ("one", "two"):
            assert task_in(alice.patch(path, json={"title": title}, headers=headers))["title"] == title
            marked = alice.patch("/api/tasks?is_completed=false", json={"is_completed": False}, headers=headers)
            assert marked.json == {"count": 1}
        assert alice.delete("/api/tasks?is_completed=true", headers=headers).json == {"count": 0}
    assert alice.delete(path, headers={"Idempotency-Key": "a,b"}).status_code == 204


def test_each_user_has_their_own_keys(alice: Caller, bob: Caller) -> None:
    hers = created(send(alice))
    his = created(send(bob, body={"title": "Something else"}))
    assert created(send(alice), replayed=True) == hers
    assert_error(send(bob), 422, "IDEMPOTENCY_KEY_REUSED")
    assert (listed(alice), listed(bob)) == ([hers], [his])


def test_a_replay_returns_the_task_as_it_is_now(alice: Caller) -> None:
    path = path_of(created(send(alice)))
    changed = task_in(alice.put(path, json={"title": "Changed", "description": "too", "is_completed": True}))
    assert created(send(alice), replayed=True) == changed
    # The body is compared with the one sent first, not with the task as it is now.
    assert_error(send(alice, body=changed), 422, "IDEMPOTENCY_KEY_REUSED")
    alice.patch("/api/tasks?is_completed=true", json={"is_completed": False})
    assert created(send(alice), replayed=True) == task_in(alice.get(path))


@pytest.mark.parametrize("how", ["single", "bulk", "user"])
def test_a_key_is_free_again_once_its_task_is_deleted(app: Flask, alice: Caller, how: str) -> None:
    task = created(send(alice))
    if how == "single":
        assert alice.delete(path_of(task)).status_code == 204
    elif how == "bulk":
        assert alice.delete("/api/tasks?is_completed=false").json == {"count": 1}
    else:
        assert app.test_cli_runner().invoke(args=["user-delete", "alice", "--yes"]).exit_code == 0
    again = created(send(alice, body={"title": "Another"}))
    assert again["id"] != task["id"]
    assert_error(send(alice), 422, "IDEMPOTENCY_KEY_REUSED")
    assert listed(alice) == [again]


def test_at_the_limit_a_replay_succeeds_and_a_new_key_is_rejected(make_app: MakeApp) -> None:
    alice = Caller(make_app(MAX_TASKS_PER_USER="2").test_client(), "alice")
    made = {key: created(send(alice, key)) for key in ("first", "second")}
    for _ in range(2):
        for key, task in made.items():
            assert created(send(alice, key), replayed=True) == task
        assert_error(send(alice, "third"), 422, "TASK_LIMIT_REACHED")
        assert_error(send(alice, "first", {"title": "Other"}), 422, "IDEMPOTENCY_KEY_REUSED")
    alice.delete(path_of(made["first"]))
    created(send(alice, "third"))
    assert_error(send(alice, "first"), 422, "TASK_LIMIT_REACHED")


def sent_at_once(app: Flask, bodies: list[Task], user: str = "alice") -> list[TestResponse]:
    """Send a creation under the same key for each body at the same time."""

    def sender(body: Task) -> Callable[[], TestResponse]:
        caller = Caller(app.test_client(), user)
        return lambda: send(caller, body=body)

    return at_once([sender(body) for body in bodies])


def the_task_of(answers: list[TestResponse]) -> Task:
    """Return the task that all responses hold, after checking that exactly one of them made it."""
    replayed = ["Idempotency-Replayed" in answer.headers for answer in answers]
    tasks = [created(answer, replayed=replay) for answer, replay in zip(answers, replayed, strict=True)]
    assert replayed.count(False) == 1
    assert tasks == [tasks[0]] * len(tasks)
    return tasks[0]


@pytest.mark.parametrize("known", [True, False])
def test_simultaneous_creations_under_one_key_make_one_task(app: Flask, alice: Caller, known: bool) -> None:
    before = [alice.create("Before")] if known else []
    task = the_task_of(sent_at_once(app, [BODY] * CALLERS))
    assert listed(alice) == [task, *before]


@pytest.mark.parametrize("known", [True, False])
def test_of_two_simultaneous_bodies_under_one_key_one_makes_the_task(app: Flask, alice: Caller, known: bool) -> None:
    before = [alice.create("Before")] if known else []
    answers = sent_at_once(app, [{"title": title} for title in ("odd", "even")] * (CALLERS // 2))
    sides = [answers[::2], answers[1::2]]
    winners, losers = sides if answers[0].status_code == 201 else sides[::-1]
    for answer in losers:
        assert_error(answer, 422, "IDEMPOTENCY_KEY_REUSED")
    assert listed(alice) == [the_task_of(winners), *before]


@pytest.mark.parametrize("limit", [1, 2])
def test_simultaneous_creations_under_one_key_share_the_last_place_below_the_limit(
    make_app: MakeApp, limit: int
) -> None:
    app = make_app(MAX_TASKS_PER_USER=str(limit))
    for user in ("alice", "bob", "carol", "dave"):
        caller = Caller(app.test_client(), user)
        before = [caller.create() for _ in range(limit - 1)]
        task = the_task_of(sent_at_once(app, [BODY] * CALLERS, user))
        assert listed(caller) == [task, *before]
