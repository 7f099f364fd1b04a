"""One's own tasks: creating, reading, changing and deleting them by the rules of the API."""

import json
import re
import uuid
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select, text

from tests.conftest import MISSING, NOWHERE, Caller, MakeApp, assert_error
from tests.support.statements import database_of
from todo_api.database import Statement
from todo_api.extensions import db
from todo_api.models import User
from todo_api.tasks.ownership import OwnedTasks
from todo_api.tasks.statements import CREATE_USER

FAMILY = "👩‍👩‍👧‍👦"  # 7 code points, drawn as one
E_ACUTE = "e\u0301"  # 2 code points
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
FIELDS = ["id", "user_id", "title", "description", "is_completed", "created_at", "updated_at"]


def test_a_created_task_is_read_back_as_it_was_answered(alice: Caller) -> None:
    created = alice.post("/api/tasks", json={"title": "Étude 🎹", "description": "2 l", "is_completed": True})
    assert created.status_code == 201
    read = alice.get(created.headers["Location"])
    assert (read.text, read.headers["ETag"]) == (created.text, created.headers["ETag"])
    assert alice.get("/api/tasks").json == [created.json]


def test_a_task_has_the_fields_of_the_contract(alice: Caller) -> None:
    task = alice.create("Buy milk")
    assert sorted(task) == sorted(FIELDS)
    assert (task["user_id"], task["title"], task["description"], task["is_completed"]) == (
        "alice",
        "Buy milk",
        None,
        False,
    )
    assert uuid.UUID(task["id"]).version == 7
    assert task["id"] == task["id"].lower()
    assert TIMESTAMP.fullmatch(task["created_at"])
    assert task["updated_at"] == task["created_at"]


def test_in_the_shell_a_title_is_enough(app: Flask) -> None:
    with app.app_context():
        made = json.loads(OwnedTasks("alice").create("Buy milk").task.json)
    assert (made["title"], made["description"], made["is_completed"]) == ("Buy milk", None, False)


@pytest.mark.parametrize("limit", ["0", "1"])
def test_a_first_task_is_stored_though_another_request_makes_the_user_meanwhile(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """The other request comes between the look for the user and the creation."""
    app = make_app(MAX_TASKS_PER_USER=limit)
    database = database_of(app)
    execute = database.execute

    def late(statement: Statement, values: Mapping[str, Any]) -> int:
        if statement is CREATE_USER:
            assert execute(statement, values) == 1
        return execute(statement, values)

    monkeypatch.setattr(database, "execute", late)
    alice = Caller(app.test_client(), "alice")
    created = alice.create()
    assert alice.get("/api/tasks").json == [created]


def test_a_user_without_tasks_has_an_empty_list(alice: Caller) -> None:
    response = alice.get("/api/tasks")
    assert (response.status_code, response.text, response.mimetype) == (200, "[]", "application/json")


def test_the_list_has_the_newest_task_first(alice: Caller) -> None:
    ids = [alice.create(f"{number}")["id"] for number in range(5)]
    listed = alice.get("/api/tasks").json
    assert listed is not None
    assert [task["id"] for task in listed] == ids[::-1]
    assert all(newer["created_at"] > older["created_at"] for newer, older in pairwise(listed))


def test_the_list_goes_by_creation_and_tasks_of_one_moment_by_id(alice: Caller, app: Flask) -> None:
    first, second, third, fourth = (alice.create(f"{number}")["id"] for number in range(4))
    with app.app_context(), db.engine.begin() as connection:
        for moment, task_id in (("2001-02-08", fourth), ("2001-02-09", second), ("2001-02-09", third)):
            values = {"moment": f"{moment}T09:30:00.123456Z", "id": task_id}
            connection.execute(text("UPDATE tasks SET created_at = :moment WHERE id = :id"), values)
    alice.patch(f"/api/tasks/{second}", json={"title": "Touched"})
    listed = alice.get("/api/tasks").json
    assert listed is not None
    assert [task["id"] for task in listed] == [first, third, second, fourth]


@pytest.mark.parametrize(
    "headers", [{}, {"Host": "evil.example"}, {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"}]
)
def test_the_location_of_a_new_task_is_a_path_whatever_the_host(alice: Caller, headers: dict[str, str]) -> None:
    created = alice.post("/api/tasks", json={"title": "x"}, headers=headers)
    assert created.json is not None
    assert created.headers["Location"] == f"/api/tasks/{created.json['id']}"


@pytest.mark.parametrize(
    ("title", "kept"),
    [
        ("x", "x"),
        ("x" * 200, "x" * 200),
        ("🥛" * 200, "🥛" * 200),
        (E_ACUTE * 100, E_ACUTE * 100),
        (FAMILY * 28, FAMILY * 28),
        (" \t\n\u00a0\u2003\u3000\x1c\x85 Buy  milk \r\n", "Buy  milk"),
        (" " * 500 + "x" * 200 + " " * 500, "x" * 200),
        ("\u200bx\ufeff", "\u200bx\ufeff"),
        ("\x01\x7f\u2028", "\x01\x7f"),
        ("\"\\/<script>%_'; DROP TABLE tasks;--", "\"\\/<script>%_'; DROP TABLE tasks;--"),
    ],
)
def test_a_title_of_1_to_200_code_points_is_kept_trimmed(alice: Caller, title: str, kept: str) -> None:
    task = alice.create(title)
    assert task["title"] == kept
    assert alice.get(f"/api/tasks/{task['id']}").json == task
    changed = alice.put(f"/api/tasks/{task['id']}", json={"title": title + " "})
    assert changed.json is not None
    assert changed.json["title"] == kept


@pytest.mark.parametrize("description", [None, "", " kept as it is \n", "x" * 2000, "🥛" * 2000, E_ACUTE * 1000])
def test_a_description_of_up_to_2000_code_points_is_kept_as_it_is(alice: Caller, description: str | None) -> None:
    task = alice.create("x", description=description)
    assert task["description"] == description
    assert alice.get("/api/tasks").json == [task]


TOO_LONG = ["x" * 201, "🥛" * 201, E_ACUTE * 100 + "x", FAMILY * 29]
WRONG_VALUES: dict[str, list[Any]] = {
    "title": ["", "   ", "\u2003", *TOO_LONG, None, 1, True, 1.5, ["x"], {"x": 1}, "a\0b", "\ud800", "x\udfffy"],
    "description": [1, False, [], {}, "x" * 2001, "🥛" * 2001, "\0", "\udc00"],
    "is_completed": [None, 0, 1, "true", "yes", "", [], {}, 1.0],
    "colour": [None, "red"],
    **{name: [1] for name in ("Title", "", "title ", "é", "\ud800", "idempotency_key", "__class__")},
}
WRONG = [(field, value) for field, values in WRONG_VALUES.items() for value in values]


@pytest.mark.parametrize(("field", "value"), WRONG)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_a_wrong_field_is_refused_by_name(alice: Caller, method: str, field: str, value: Any) -> None:
    task = alice.create("Kept")
    path = "/api/tasks" if method == "POST" else f"/api/tasks/{task['id']}"
    body = assert_error(alice(method, path, json={"title": "x", field: value}), 400, "VALIDATION_ERROR")
    assert list(body["errors"]) == [field]
    assert all(isinstance(message, str) for message in body["errors"][field])
    assert alice.get("/api/tasks").json == [task]


def test_every_wrong_field_is_named_at_once_with_what_it_may_be(alice: Caller) -> None:
    response = alice.post("/api/tasks", json={"description": 1, "is_completed": 1, "colour": 1})
    assert assert_error(response, 400, "VALIDATION_ERROR")["errors"] == {
        "title": ["Missing data for required field."],
        "description": ["Must be a string."],
        "is_completed": ["Must be true or false."],
        "colour": ["Unknown field."],
    }
    response = alice.post("/api/tasks", json={"title": "", "description": "\0"})
    assert assert_error(response, 400, "VALIDATION_ERROR")["errors"] == {
        "title": ["Must have 1 to 200 characters."],
        "description": ["Must not contain U+0000 or a lone surrogate."],
    }


def test_a_title_is_required_to_create_only(alice: Caller) -> None:
    body = assert_error(alice.post("/api/tasks", json={}), 400, "VALIDATION_ERROR")
    assert list(body["errors"]) == ["title"]


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize(
    "changes",
    [
        {"title": "New"},
        {"description": "New"},
        {"description": None},
        {"is_completed": True},
        {"title": "New", "description": "New", "is_completed": True},
        {"title": "Old"},
    ],
)
def test_an_update_changes_the_fields_sent_and_the_version(alice: Caller, method: str, changes: dict[str, Any]) -> None:
    task = alice.create("Old", description="Old")
    changed = alice(method, f"/api/tasks/{task['id']}", json=changes)
    assert changed.status_code == 200
    assert changed.json is not None
    assert changed.json["updated_at"] > task["updated_at"]
    assert changed.json == task | changes | {"updated_at": changed.json["updated_at"]}
    assert alice.get(f"/api/tasks/{task['id']}").json == changed.json


READ_ONLY = {"id": NOWHERE, "user_id": "bob", "created_at": "2001-01-01T00:00:00.000000Z", "updated_at": None}


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize("body", [{}, READ_ONLY])
def test_an_update_without_a_field_to_change_changes_nothing(alice: Caller, method: str, body: dict[str, Any]) -> None:
    task = alice.create("Kept")
    answer = alice(method, f"/api/tasks/{task['id']}", json=body)
    assert (answer.status_code, answer.json) == (200, task)
    assert alice.get("/api/tasks").json == [task]


def test_the_servers_own_fields_are_ignored_in_a_body(alice: Caller) -> None:
    task = alice.create("Mine", **READ_ONLY)
    assert task["user_id"] == "alice"
    assert task["id"] != NOWHERE
    assert task["created_at"] > "2026"
    alice.create("Mine", **dict.fromkeys(READ_ONLY, "\0\ud800"))
    sent_back = alice.put(f"/api/tasks/{task['id']}", json=task | {"is_completed": True})
    assert sent_back.json is not None
    assert sent_back.json == task | {"is_completed": True, "updated_at": sent_back.json["updated_at"]}


def test_a_deleted_task_is_gone(alice: Caller) -> None:
    kept, task = alice.create("Kept"), alice.create("Gone")
    deleted = alice.delete(f"/api/tasks/{task['id']}")
    assert (deleted.status_code, deleted.data) == (204, b"")
    assert "Content-Type" not in deleted.headers
    assert_error(alice.get(f"/api/tasks/{task['id']}"), 404, "TASK_NOT_FOUND")
    assert_error(alice.delete(f"/api/tasks/{task['id']}"), 404, "TASK_NOT_FOUND")
    assert alice.get("/api/tasks").json == [kept]


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    "task_id",
    [
        NOWHERE,
        "1",
        "not-a-uuid",
        NOWHERE.replace("-", ""),
        f"{{{NOWHERE}}}",
        f"urn:uuid:{NOWHERE}",
        NOWHERE + "%0A",
        NOWHERE[:-1] + "g",
        NOWHERE[:-1] + "%D9%A0",
        "%00",
        "%FF",
        "'; DROP TABLE tasks;--",
        "x" * 5000,
    ],
)
def test_an_id_that_names_no_task_is_not_found(alice: Caller, method: str, task_id: str) -> None:
    assert_error(alice(method, f"/api/tasks/{task_id}", json={"title": "x"}), 404, "TASK_NOT_FOUND")


def test_an_id_is_known_in_upper_case_too(alice: Caller) -> None:
    task = alice.create()
    path = f"/api/tasks/{task['id'].upper()}"
    assert alice.get(path).json == task
    assert alice.patch(path, json={"title": "New"}).status_code == 200
    assert alice.delete(path).status_code == 204


def test_head_answers_as_get_does_without_a_body(alice: Caller) -> None:
    task = alice.create()
    for path in ("/api/tasks", f"/api/tasks/{task['id']}"):
        head, got = alice("HEAD", path), alice.get(path)
        assert (head.status_code, head.data) == (200, b"")
        assert head.headers["Content-Length"] == got.headers["Content-Length"]


def test_a_user_has_as_many_tasks_as_the_limit_says(make_app: MakeApp) -> None:
    client = make_app(MAX_TASKS_PER_USER="3").test_client()
    alice, bob = Caller(client, "alice"), Caller(client, "bob")
    tasks = [alice.create() for _ in range(3)]
    for _ in range(2):
        assert_error(alice.post("/api/tasks", json={"title": "One too many"}), 422, "TASK_LIMIT_REACHED")
    bob.create()
    alice.delete(f"/api/tasks/{tasks[0]['id']}")
    alice.create()
    assert_error(alice.post("/api/tasks", json={"title": "One too many"}), 422, "TASK_LIMIT_REACHED")


def test_a_limit_of_0_is_none(make_app: MakeApp) -> None:
    alice = Caller(make_app(MAX_TASKS_PER_USER="0").test_client(), "alice")
    for _ in range(5):
        alice.create()


def test_a_user_appears_with_their_first_task(alice: Caller, app: Flask) -> None:
    def users() -> list[str]:
        with app.app_context():
            return list(db.session.scalars(select(User.id)))

    alice.get("/api/tasks")
    alice.get(MISSING)
    alice.post("/api/tasks", json={"title": ""})
    assert users() == []
    alice.create()
    alice.create()
    assert users() == ["alice"]


@pytest.mark.parametrize(
    "text",
    ["Buy milk", "Étude 任务 😀", 'quote " slash \\ / tab\t line\n bell\x07 delete\x7f', "<b>&amp;</b> \u2028 \x1f x"],
)
def test_a_task_is_the_same_to_the_byte_from_each_route_that_has_one_tag_for_it(alice: Caller, text: str) -> None:
    created = alice.post("/api/tasks", json={"title": text, "description": text, "is_completed": True})
    assert created.status_code == 201
    task = created.headers["Location"]
    for again in (alice.get(task), alice.patch(task, json={})):
        assert again.data == created.data
        assert again.headers["ETag"] == created.headers["ETag"]
