"""Create, read, change and delete one task."""

import json
import re
import uuid
from collections.abc import Mapping
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select

from tests.conftest import MISSING, MISSING_ID, Caller, MakeApp, assert_error, headers_of
from tests.support.statements import database_of
from tests.support.tasks import Task, assert_invalid, listed, path_of, task_in
from todo_api.database import Statement
from todo_api.extensions import db
from todo_api.models import User
from todo_api.tasks.ownership import OwnedTasks
from todo_api.tasks.statements import CREATE_USER

E_ACUTE = "e\u0301"  # two code points, shown as one character
SPECIAL = "Étude 任务 😀 \"'`\\/ <b>&amp;</b> %_ '; DROP TABLE tasks;-- \t\n\r\b\x01\x07\x1f\x7f\x85\u2028\ufeff x"
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
LONG_AGO = "2001-01-01T00:00:00.000000Z"
READ_ONLY = {
    "id": MISSING_ID,
    "user_id": "bob",
    "completed_at": LONG_AGO,
    "created_at": LONG_AGO,
    "updated_at": None,
}


def test_a_new_task_has_the_documented_fields(alice: Caller) -> None:
    task = alice.create("Buy milk")
    assert TIMESTAMP.fullmatch(task["created_at"])
    assert uuid.UUID(task["id"]).version == 7
    assert task["id"] == task["id"].lower()
    assert task == {
        "id": task["id"],
        "user_id": "alice",
        "title": "Buy milk",
        "description": None,
        "is_completed": False,
        "completed_at": None,
        "due_date": None,
        "priority": None,
        "tags": [],
        "created_at": task["created_at"],
        "updated_at": task["created_at"],
    }


@pytest.mark.parametrize(
    ("title", "description"),
    [
        ("x", ""),
        ("🥛" * 200, "🥛" * 2000),
        (E_ACUTE * 100, E_ACUTE * 1000),
        (SPECIAL, f" \n{SPECIAL}\u3000 "),
    ],
)
def test_every_text_within_the_limits_is_stored_as_it_is(alice: Caller, title: str, description: str) -> None:
    task = alice.create(title, description=description)
    assert (task["title"], task["description"]) == (title, description)
    changed = alice.put(path_of(alice.create("x")), json={"title": title, "description": description})
    assert (task_in(changed)["title"], task_in(changed)["description"]) == (title, description)


def test_every_route_returns_the_same_bytes_and_etag_for_a_task(alice: Caller) -> None:
    created = alice.post("/api/tasks", json={"title": SPECIAL, "description": SPECIAL, "is_completed": True})
    path = path_of(task_in(created, 201))
    for response in (alice.get(path), alice.patch(path, json={})):
        assert response.data == created.data
        assert response.headers["ETag"] == created.headers["ETag"]
    assert alice.get("/api/tasks").data == b"[" + created.data + b"]"


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    ("title", "stored"),
    [
        (" \t\n\u00a0\u2003\u3000\x1c\x85 Buy  milk \r\n\u2028", "Buy  milk"),
        (" " * 500 + "x" * 200 + " " * 500, "x" * 200),
        ("\u200bx\ufeff", "\u200bx\ufeff"),
    ],
)
def test_a_title_is_trimmed_as_python_does_and_then_measured(alice: Caller, title: str, stored: str) -> None:
    assert alice.create(title)["title"] == stored
    assert task_in(alice.put(path_of(alice.create("x")), json={"title": title}))["title"] == stored


NO_DAYS = [
    *(
        "",
        " ",
        "today",
        "0000-12-31",
        "10000-01-01",
        "2026-02-29",
        "2026-02-30",
        "2026-13-01",
        "2026-00-10",
        "2026-01-00",
    ),
    *(
        "2026-2-8",
        "20260208",
        "2026-W06-7",
        "2026-039",
        "26-02-08",
        "2026/02/08",
        "08.02.2026",
        "-2026-02-08",
        "+2026-02-08",
    ),
    *(
        " 2026-02-08",
        "2026-02-08 ",
        "2026-02-08\n",
        "2026-02-08Z",
        "2026-02-08T00:00:00Z",
        "2026-02-08 00:00",
        "infinity",
    ),
    *("\uff12\uff10\uff12\uff16-02-08", "2026\u201002\u201008", "2026-02-0\u0668", "2026-02-08\0", "2026-02-08\ud800"),
]
NO_TAGS = ["", " \u2003\n", "x" * 51, "🥛" * 51, "a\0b", "\ud800", 1, None, True, {}]
TAGS = [f"tag {number}" for number in range(20)]
INVALID: dict[str, list[Any]] = {
    "title": ["", " \u2003 ", "x" * 201, "🥛" * 201, None, 1, True, ["x"], "a\0b", "\ud800"],
    "description": ["x" * 2001, 1, False, [], {}, "\0", "x\udfff"],
    "is_completed": [None, 0, 1, 1.0, "true", "yes", ""],
    "due_date": [*NO_DAYS, 20260208, 0, True, [], {}],
    "priority": ["", "none", "Low", " low", "urgent", "\0", "\ud800", 1, True, ["low"], {}],
    "tags": [None, "x", {}, 1, True, *[[tag] for tag in NO_TAGS], ["a", None], [["a"]], [*TAGS, "x"], ["a"] * 21],
    **{name: ["x"] for name in ("colour", "Title", "title ", "", "\ud800", "idempotency_key")},
}


@pytest.mark.sqlite_only
@pytest.mark.parametrize(("field", "value"), [(field, value) for field in INVALID for value in INVALID[field]])
def test_an_invalid_or_unknown_field_is_rejected_by_name(alice: Caller, field: str, value: Any) -> None:
    task = alice.create("Kept")
    for method, path in (("POST", "/api/tasks"), ("PUT", path_of(task)), ("PATCH", path_of(task))):
        assert_invalid(alice(method, path, json={"title": "x", field: value}), field)
    assert listed(alice) == [task]


@pytest.mark.sqlite_only
def test_all_invalid_fields_are_named_at_once_with_what_is_allowed(alice: Caller) -> None:
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
    response = alice.post("/api/tasks", json={"title": "x", "due_date": "today", "priority": "x", "tags": ["x"] * 21})
    assert assert_error(response, 400, "VALIDATION_ERROR")["errors"] == {
        "due_date": ["Must be a day such as 2026-02-08."],
        "priority": ["Must be one of: low, medium, high."],
        "tags": ["Must have at most 20 tags."],
    }
    response = alice.post("/api/tasks", json={"title": "x", "due_date": 1, "priority": 1, "tags": "x"})
    assert assert_error(response, 400, "VALIDATION_ERROR")["errors"] == {
        "due_date": ["Must be a string."],
        "priority": ["Must be a string."],
        "tags": ["Must be an array of strings."],
    }
    for tag, message in (
        ("", "have 1 to 50 characters"),
        (1, "be a string"),
        ("\0", "not contain U+0000 or a lone surrogate"),
    ):
        response = alice.post("/api/tasks", json={"title": "x", "tags": ["a", tag]})
        assert assert_invalid(response, "tags") == {"tags": [f"Each tag must {message}."]}


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"title": ""}, "title: Must have 1 to 200 characters."),
        (
            {"title": 1, "description": "\0"},
            "description: Must not contain U+0000 or a lone surrogate.; title: Must be a string.",
        ),
        ({"titel": "x"}, "titel: Unknown field, did you mean title?; title: Missing data for required field."),
        ({"title": "x", "isCompleted": True}, "isCompleted: Unknown field, did you mean is_completed?"),
        ({"title": "x", "createdAt": "x"}, "createdAt: Unknown field, did you mean created_at?"),
        ({"title": "x", "TITLE": "x"}, "TITLE: Unknown field, did you mean title?"),
        ({"title": "x", "colour": "x"}, "colour: Unknown field."),
        ({"title": "x", "": "x"}, ": Unknown field."),
        ({"title": "x", "é\n\u202e\ud800\\": "x"}, "é\\n\\u202e\\ud800\\\\: Unknown field."),
        ({"title": "x", "y" * 51: "x"}, f"{'y' * 50}: Unknown field."),
    ],
)
def test_the_detail_says_what_is_wrong_with_which_field(alice: Caller, fields: dict[str, Any], detail: str) -> None:
    assert assert_error(alice.post("/api/tasks", json=fields), 400, "VALIDATION_ERROR")["detail"] == detail


@pytest.mark.sqlite_only
def test_the_detail_of_a_bulk_request_names_the_fields_that_it_takes(alice: Caller) -> None:
    refused = alice.patch("/api/tasks?is_completed=true", json={"is_completed": False, "isCompleted": False})
    detail = "isCompleted: Unknown field, did you mean is_completed?"
    assert assert_error(refused, 400, "VALIDATION_ERROR")["detail"] == detail


@pytest.mark.sqlite_only
def test_the_detail_is_short_and_quick_however_many_fields_are_wrong(alice: Caller) -> None:
    body = dict.fromkeys((f"title{number}" for number in range(4000)), 1)
    refused = assert_error(alice.post("/api/tasks", json=body), 400, "VALIDATION_ERROR")
    assert len(refused["detail"]) == 300
    assert refused["detail"].startswith("title: Missing data for required field.; title0: Unknown field, did you mean")
    assert refused["detail"].endswith("...")
    assert refused["errors"].keys() == body.keys() | {"title"}
    explained = [name for name, messages in refused["errors"].items() if messages != ["Unknown field."]]
    assert len(explained) == 21  # and the title


@pytest.mark.sqlite_only
@pytest.mark.parametrize("value", ["a private value", ["a private value"], {"title": "a private value"}])
def test_no_value_is_repeated_in_an_error(alice: Caller, value: Any) -> None:
    for fields in ({"title": "x", "is_completed": value}, {"title": [value]}, {"title": "x", "colour": value}):
        assert "private" not in alice.post("/api/tasks", json=fields).text
    for name in ("is_completed", "limit", "sort", "cursor", "include_total", "colour"):
        assert "private" not in alice.get("/api/tasks", query_string={name: str(value)}).text


@pytest.mark.parametrize(
    "changes",
    [
        {"title": "New"},
        {"description": "New"},
        {"description": None},
        {"is_completed": True},
        {"due_date": "2026-02-09"},
        {"due_date": None},
        {"priority": "high"},
        {"priority": None},
        {"tags": ["new", "old"]},
        {"tags": []},
        {
            "title": "New",
            "description": "New",
            "is_completed": True,
            "due_date": None,
            "priority": "low",
            "tags": ["x"],
        },
        {"title": "Old"},
    ],
)
def test_an_update_changes_only_the_fields_sent_and_the_version(alice: Caller, changes: Task) -> None:
    for method in ("PUT", "PATCH"):
        task = alice.create("Old", description="Old", due_date="2026-02-08", priority="medium", tags=["old"])
        changed = task_in(alice(method, path_of(task), json=changes))
        assert changed["updated_at"] > task["updated_at"]
        completed_at = changed["updated_at"] if "is_completed" in changes else None
        assert changed == task | changes | {"completed_at": completed_at, "updated_at": changed["updated_at"]}
        assert task_in(alice.get(path_of(task))) == changed


@pytest.mark.sqlite_only
def test_an_update_without_a_writable_field_changes_nothing(alice: Caller) -> None:
    task = alice.create("Kept")
    for body in ({}, READ_ONLY):
        for method in ("PUT", "PATCH"):
            assert task_in(alice(method, path_of(task), json=body)) == task
    assert listed(alice) == [task]


@pytest.mark.sqlite_only
def test_read_only_fields_in_a_body_are_ignored_whatever_their_value(alice: Caller) -> None:
    task = alice.create("Mine", **READ_ONLY)
    assert task["user_id"] == "alice"
    assert task["id"] != MISSING_ID
    assert task["created_at"] > "2026"
    alice.create("Mine", **dict.fromkeys(READ_ONLY, "\0\ud800"))
    assert task["completed_at"] is None
    sent_back = task_in(alice.put(path_of(task), json=task | {"is_completed": True}))
    now = sent_back["updated_at"]
    assert sent_back == task | {"is_completed": True, "completed_at": now, "updated_at": now}


def test_a_deleted_task_is_gone(alice: Caller) -> None:
    kept, task = alice.create("Kept"), alice.create("Gone")
    deleted = alice.delete(path_of(task))
    assert (deleted.status_code, deleted.data) == (204, b"")
    assert "Content-Type" not in deleted.headers
    assert_error(alice.get(path_of(task)), 404, "TASK_NOT_FOUND")
    assert_error(alice.delete(path_of(task)), 404, "TASK_NOT_FOUND")
    assert listed(alice) == [kept]


@pytest.mark.parametrize(
    "spelling",
    [
        MISSING_ID,
        "1",
        "{bare}",
        "%7B{id}%7D",
        "urn:uuid:{id}",
        "{id}%0A",
        "%20{id}",
        "{cut}%D9%A0",
        "%00",
        "%FF",
        "x" * 5000,
    ],
)
def test_an_id_that_names_no_task_is_not_found(alice: Caller, spelling: str) -> None:
    """PostgreSQL itself would accept some of these spellings of a UUID."""
    task = alice.create()
    path = spelling.format(id=task["id"], bare=task["id"].replace("-", ""), cut=task["id"][:-1])
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        assert_error(alice(method, f"/api/tasks/{path}", json={"title": "x"}), 404, "TASK_NOT_FOUND")
    assert listed(alice) == [task]


def test_an_id_may_be_in_upper_case(alice: Caller) -> None:
    task = alice.create()
    path = f"/api/tasks/{task['id'].upper()}"
    assert task_in(alice.get(path)) == task
    assert task_in(alice.patch(path, json={"title": "New"}))["title"] == "New"
    assert alice.delete(path).status_code == 204


@pytest.mark.sqlite_only
def test_head_returns_the_headers_of_get_without_a_body(alice: Caller) -> None:
    task, *_ = (alice.create() for _ in range(3))
    paths = (path_of(task), MISSING, "/api/tasks", "/api/tasks?limit=2&include_total=true", "/api/tasks?limit=0")
    for path in paths:
        got, head = alice.get(path), alice("HEAD", path)
        assert got.data
        assert (head.status_code, head.data, headers_of(head)) == (got.status_code, b"", headers_of(got))


@pytest.mark.sqlite_only
def test_location_and_link_are_paths_whatever_the_host(alice: Caller) -> None:
    headers = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"}
    for _ in range(2):
        created = alice.post("/api/tasks", json={"title": "x"}, headers=headers)
        assert created.headers["Location"] == path_of(task_in(created, 201))
    assert alice.get("/api/tasks?limit=1", headers=headers).headers["Link"].startswith("</api/tasks?")


def test_a_user_has_at_most_as_many_tasks_as_the_limit(make_app: MakeApp) -> None:
    client = make_app(MAX_TASKS_PER_USER="3").test_client()
    alice, bob = Caller(client, "alice"), Caller(client, "bob")
    tasks = [alice.create() for _ in range(3)]
    assert_error(alice.post("/api/tasks", json={"title": "One too many"}), 422, "TASK_LIMIT_REACHED")
    bob.create()
    alice.delete(path_of(tasks[0]))
    alice.create()
    assert_error(alice.post("/api/tasks", json={"title": "One too many"}), 422, "TASK_LIMIT_REACHED")
    assert len(listed(alice)) == 3


def test_a_user_is_stored_with_their_first_task(alice: Caller, app: Flask) -> None:
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


@pytest.mark.parametrize("limit", ["0", "1"])
def test_a_first_task_is_stored_even_if_another_request_stores_the_user_meanwhile(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    app = make_app(MAX_TASKS_PER_USER=limit)
    database = database_of(app)
    execute = database.execute

    def execute_twice(statement: Statement, values: Mapping[str, Any]) -> int:
        if statement is CREATE_USER:
            assert execute(statement, values) == 1
        return execute(statement, values)

    monkeypatch.setattr(database, "execute", execute_twice)
    alice = Caller(app.test_client(), "alice")
    created = alice.create()
    assert listed(alice) == [created]


@pytest.mark.sqlite_only
def test_in_the_shell_a_title_is_enough(app: Flask) -> None:
    with app.app_context():
        task = json.loads(OwnedTasks("alice").create("Buy milk").json)
    assert (task["title"], task["description"], task["is_completed"]) == ("Buy milk", None, False)
