"""Bob and Alice's tasks: he can neither see nor change them, and learns at most that an id exists."""

from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tests.conftest import MISSING, MISSING_ID, Caller, MakeApp, assert_error, headers_of
from tests.support.statements import recorded
from tests.support.tasks import assert_invalid, listed, path_of, task_in
from todo_api.tasks import OwnedTasks

OTHER_VERSION = '"2026-02-08T09:30:00.123456Z"'
WRITES: list[tuple[str, dict[str, Any]]] = [
    ("PUT", {"json": {"title": "Bob was here"}}),
    ("PATCH", {"json": {"is_completed": True}}),
    ("PATCH", {"json": {}}),
    ("PUT", {"json": {"user_id": "bob"}}),
    ("DELETE", {}),
]
REQUESTS = [("GET", {}), *WRITES]
ANY_OWNER = "SELECT EXISTS (SELECT * \nFROM tasks \nWHERE tasks.id = :id)"
REFUSALS = {"true": (404, "TASK_NOT_FOUND"), "false": (403, "TASK_FORBIDDEN")}


def visible(response: TestResponse) -> tuple[int, bytes, list[tuple[str, str]]]:
    """Return everything a client sees, except what differs between any two requests."""
    return response.status_code, response.data, headers_of(response)


@pytest.mark.parametrize(("method", "more"), REQUESTS)
def test_another_users_task_is_forbidden_and_left_alone(
    alice: Caller, bob: Caller, method: str, more: dict[str, Any]
) -> None:
    task = alice.create("A secret of alice", description="Another")
    refused = bob(method, path_of(task), **more)
    assert_error(refused, 403, "TASK_FORBIDDEN")
    visible_text = refused.text + str(refused.headers)
    assert not [value for value in task.values() if isinstance(value, str) and value in visible_text]
    assert listed(alice) == [task]
    assert listed(bob) == []


@pytest.mark.sqlite_only
def test_head_and_an_upper_case_id_are_forbidden_too(alice: Caller, bob: Caller) -> None:
    refused = bob("HEAD", f"/api/tasks/{alice.create()['id'].upper()}")
    assert (refused.status_code, refused.data) == (403, b"")


@pytest.mark.sqlite_only
def test_a_user_id_in_body_or_query_has_no_effect(alice: Caller, bob: Caller) -> None:
    task = alice.create("Hers")
    assert_invalid(bob.post("/api/tasks?user_id=alice", json={"title": "His"}), "user_id")
    assert_invalid(bob.get("/api/tasks?user_id=alice"), "user_id")
    assert_error(bob.get(f"{path_of(task)}?user_id=alice"), 403, "TASK_FORBIDDEN")
    created = bob.create("His", user_id="alice")
    assert created["user_id"] == "bob"
    changed = bob.put(f"{path_of(created)}?user_id=alice", json={"title": "Still his", "user_id": "alice"})
    assert task_in(changed)["user_id"] == "bob"
    assert listed(alice) == [task]


@pytest.mark.parametrize("user", ["Alice", "alice ", "alic", "alice%", "alicé", "' OR 1=1 --"])
def test_a_user_with_a_similar_id_is_a_stranger(alice: Caller, app: Flask, user: str) -> None:
    task = alice.create()
    stranger = Caller(app.test_client(), user)
    assert_error(stranger.get(path_of(task)), 403, "TASK_FORBIDDEN")
    assert listed(stranger) == []
    assert stranger.create()["user_id"] == user


@pytest.mark.parametrize("conceal", ["true", "false"])
def test_a_foreign_task_is_rejected_in_the_same_way_under_every_condition(make_app: MakeApp, conceal: str) -> None:
    """Concealed, it cannot be told from a missing one."""
    client = make_app(CONCEAL_FOREIGN_TASKS=conceal).test_client()
    alice, bob = Caller(client, "alice"), Caller(client, "bob")
    task = alice.create("Hers")
    conditions: list[dict[str, str]] = [{}]
    for tag in ("*", f'"{task["updated_at"]}"', OTHER_VERSION, ""):
        conditions += [{"If-Match": tag}, {"If-None-Match": tag}]
    for headers in conditions:
        for method, more in REQUESTS:
            foreign, missing = (bob(method, path, headers=headers, **more) for path in (path_of(task), MISSING))
            assert_error(foreign, *REFUSALS[conceal])
            assert_error(missing, 404, "TASK_NOT_FOUND")
            assert (visible(foreign) == visible(missing)) == (conceal == "true")
        heads = [bob("HEAD", path, headers=headers) for path in (path_of(task), MISSING)]
        assert (visible(heads[0]) == visible(heads[1])) == (conceal == "true")
    assert listed(alice) == [task]


@pytest.mark.sqlite_only
@pytest.mark.parametrize("conceal", ["true", "false"])
@pytest.mark.parametrize(("condition", "number"), [(None, 2), ("*", 2), (OTHER_VERSION, 2), ("", 2)])
def test_a_foreign_and_a_missing_id_run_the_same_statements(
    make_app: MakeApp, conceal: str, condition: str | None, number: int
) -> None:
    app = make_app(CONCEAL_FOREIGN_TASKS=conceal)
    alice, bob = Caller(app.test_client(), "alice"), Caller(app.test_client(), "bob")
    headers = {} if condition is None else {"If-Match": condition}
    foreign_id = alice.create("Hers")["id"]
    for method, more in REQUESTS if condition is None else WRITES:
        run = []
        for task_id in (foreign_id, MISSING_ID):
            with recorded(app) as statements:
                bob(method, f"/api/tasks/{task_id}", headers=headers, **more)
            run.append([sql for sql, _ in statements])
        assert run[0] == run[1]
        assert len(run[0]) == number
        looks_past_the_owner = any(sql.startswith(ANY_OWNER) for sql in run[0])
        assert looks_past_the_owner == (conceal == "false")


@pytest.mark.sqlite_only
def test_each_request_of_the_owner_is_one_statement(alice: Caller, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """A condition is checked in the statement that writes. One in a hundred writes prunes, too."""
    monkeypatch.setattr(OwnedTasks, "_prune_sometimes", lambda _: None)
    for method, more in [*REQUESTS, ("POST", {"json": {"title": "x"}})]:
        for if_match in (False, True):
            task = alice.create()
            headers = {"If-Match": f'"{task["updated_at"]}"'} if if_match else {}
            with recorded(app) as statements:
                answer = alice(method, "/api/tasks" if method == "POST" else path_of(task), headers=headers, **more)
            assert answer.status_code < 300
            assert len(statements) == 1
    with recorded(app) as statements:
        assert listed(alice)
    assert len(statements) == 1
