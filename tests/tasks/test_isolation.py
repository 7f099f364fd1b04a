"""Bob and alice's tasks: he sees none, changes none, and learns no more than that an id is taken."""

from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tests.conftest import NOWHERE, Caller, MakeApp, assert_error, headers_of
from tests.support.statements import recorded

REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("GET", {}),
    ("PUT", {"json": {"title": "Bob was here"}}),
    ("PATCH", {"json": {"is_completed": True}}),
    ("PATCH", {"json": {}}),
    ("PUT", {"json": {"user_id": "bob"}}),
    ("DELETE", {}),
]


@pytest.mark.parametrize(("method", "more"), REQUESTS)
def test_a_strangers_request_is_forbidden_and_changes_nothing(
    alice: Caller, bob: Caller, method: str, more: dict[str, Any]
) -> None:
    task = alice.create("A secret of alice", description="Another")
    refused = bob(method, f"/api/tasks/{task['id']}", **more)
    assert_error(refused, 403, "TASK_FORBIDDEN")
    said = refused.text + str(refused.headers)
    assert not [value for value in task.values() if isinstance(value, str) and value in said]
    assert alice.get("/api/tasks").json == [task]
    assert bob.get("/api/tasks").json == []


def test_head_is_forbidden_too(alice: Caller, bob: Caller) -> None:
    refused = bob("HEAD", f"/api/tasks/{alice.create()['id'].upper()}")
    assert (refused.status_code, refused.data) == (403, b"")


def test_lists_never_mix(alice: Caller, bob: Caller) -> None:
    hers, his = [alice.create("Hers")], [bob.create("His")]
    assert (alice.get("/api/tasks").json, bob.get("/api/tasks").json) == (hers, his)


def test_a_user_id_in_body_or_query_has_no_effect(alice: Caller, bob: Caller) -> None:
    task = alice.create("Hers")
    assert_error(bob.post("/api/tasks?user_id=alice", json={"title": "His"}), 400, "VALIDATION_ERROR")
    assert_error(bob.get("/api/tasks?user_id=alice"), 400, "VALIDATION_ERROR")
    created = bob.post("/api/tasks", json={"title": "His", "user_id": "alice"})
    assert created.json is not None
    assert created.json["user_id"] == "bob"
    assert_error(bob.get(f"/api/tasks/{task['id']}?user_id=alice"), 403, "TASK_FORBIDDEN")
    path = f"/api/tasks/{created.json['id']}?user_id=alice"
    changed = bob.put(path, json={"title": "Still his", "user_id": "alice"})
    assert changed.json is not None
    assert changed.json["user_id"] == "bob"
    assert alice.get("/api/tasks").json == [task]


@pytest.mark.parametrize("user", ["Alice", "alice ", "ALICE", "alice\n", "alic", "%", "alice%", "alicé", "' OR 1=1 --"])
def test_a_user_with_a_similar_name_is_a_stranger(alice: Caller, app: Flask, user: str) -> None:
    task = alice.create()
    stranger = Caller(app.test_client(), user)
    assert_error(stranger.get(f"/api/tasks/{task['id']}"), 403, "TASK_FORBIDDEN")
    assert stranger.get("/api/tasks").json == []
    assert stranger.create()["user_id"] == user


def told(response: TestResponse) -> tuple[int, bytes, list[tuple[str, str]]]:
    """All that a client learns, but for what differs from one request to the next."""
    return response.status_code, response.data, headers_of(response)


@pytest.mark.parametrize(("method", "more"), [*REQUESTS, ("HEAD", {})])
def test_concealed_tasks_cannot_be_told_from_missing_ones(make_app: MakeApp, method: str, more: dict[str, Any]) -> None:
    client = make_app(CONCEAL_FOREIGN_TASKS="true").test_client()
    alice, bob = Caller(client, "alice"), Caller(client, "bob")
    task = alice.create("Hers")
    foreign, missing = (bob(method, f"/api/tasks/{task_id}", **more) for task_id in (task["id"], NOWHERE))
    assert told(foreign) == told(missing)
    assert foreign.status_code == 404
    assert method == "HEAD" or assert_error(foreign, 404, "TASK_NOT_FOUND")
    assert alice.get("/api/tasks").json == [task]


@pytest.mark.parametrize("conceal", ["true", "false"])
@pytest.mark.parametrize(("method", "more"), REQUESTS)
def test_a_foreign_and_a_missing_id_run_the_same_statements(
    make_app: MakeApp, conceal: str, method: str, more: dict[str, Any]
) -> None:
    app = make_app(CONCEAL_FOREIGN_TASKS=conceal)
    alice, bob = Caller(app.test_client(), "alice"), Caller(app.test_client(), "bob")
    task = alice.create("Hers")
    with recorded(app) as foreign:
        bob(method, f"/api/tasks/{task['id']}", **more)
    with recorded(app) as missing:
        bob(method, f"/api/tasks/{NOWHERE}", **more)
    assert [sql for sql, _ in foreign] == [sql for sql, _ in missing]
    assert len(foreign) == 2


def test_each_request_of_the_owner_is_one_statement(alice: Caller, app: Flask) -> None:
    path = f"/api/tasks/{alice.create()['id']}"
    for request in (
        lambda: alice.get("/api/tasks"),
        lambda: alice.create("Another"),
        lambda: alice.get(path),
        lambda: alice.put(path, json={"title": "New"}),
        lambda: alice.put(path, json={}),
        lambda: alice.delete(path),
    ):
        with recorded(app) as seen:
            request()
        assert len(seen) == 1
