"""Due dates, priorities, tags, and when a task was completed."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from tests.conftest import Caller, dispose, environ_for
from tests.support.databases import rows_of
from tests.support.tasks import Task, etag_of, listed, path_of, task_in
from todo_api import create_app

ZONES = ["Pacific/Kiritimati", "Etc/GMT+12", "Asia/Kolkata"]  # UTC+14, UTC-12, UTC+5:30
DAYS = ["0001-01-01", "1582-10-10", "1970-01-01", "2024-02-29", "2026-02-08", "2026-03-29", "9999-12-31"]
TAGS = [f"tag {number}" for number in range(20)]


@pytest.fixture(params=ZONES)
def elsewhere(request: pytest.FixtureRequest, database_url: str, tmp_path: Path) -> Iterator[Caller]:
    """Alice, calling a process in another time zone, whose database sessions are in another one still."""
    zone = request.param
    url = make_url(database_url)
    if url.get_backend_name() == "postgresql":
        other = ZONES[ZONES.index(zone) - 1]
        url = url.update_query_dict({"options": f"-c timezone={other} -c datestyle=SQL,DMY"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        app = create_app(environ_for(url.render_as_string(hide_password=False)), tmp_path)
        yield Caller(app.test_client(), "alice")
        dispose(app)
    time.tzset()


def test_a_day_is_the_same_day_in_every_time_zone(elsewhere: Caller, alice: Caller) -> None:
    created = [elsewhere.create(day, due_date=day) for day in DAYS]
    assert [task["due_date"] for task in created] == DAYS
    assert listed(alice, sort="due_date") == listed(elsewhere, sort="due_date") == created
    for task in created:
        assert listed(elsewhere, due_from=task["due_date"], due_to=task["due_date"]) == [task]
    for task, day in zip(created, reversed(DAYS), strict=True):
        assert task_in(elsewhere.patch(path_of(task), json={"due_date": day}))["due_date"] == day
        assert task_in(alice.get(path_of(task)))["due_date"] == day
    first = elsewhere.get("/api/tasks?sort=due_date&limit=3")
    cursor = first.headers["X-Next-Cursor"]
    assert [*(first.json or []), *listed(alice, sort="due_date", cursor=cursor)] == listed(alice, sort="due_date")


def test_times_of_completion_are_in_utc_in_every_time_zone(elsewhere: Caller, alice: Caller) -> None:
    task = elsewhere.create("Done", is_completed=True)
    assert task["completed_at"] == task["created_at"] == task["updated_at"]
    assert listed(alice) == listed(elsewhere) == [task]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
@pytest.mark.parametrize("priority", ["low", "medium", "high", None])
def test_each_priority_is_stored(alice: Caller, method: str, priority: str | None) -> None:
    path = "/api/tasks" if method == "POST" else path_of(alice.create("x", priority="low"))
    task: Any = alice(method, path, json={"title": "x", "priority": priority}).json
    assert task["priority"] == priority
    assert listed(alice) == [task]


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ([], []),
        (TAGS, TAGS),
        (["x" * 50, "🥛" * 50], ["x" * 50, "🥛" * 50]),
        ([" \t" * 100 + "x" * 50 + "\u3000\n" * 100], ["x" * 50]),
        (["b", "a", " b\n", "c", "a"], ["b", "a", "c"]),
        (["a"] * 20, ["a"]),
        (["a", "A", "é", "e\u0301", "ß", "ss"], ["a", "A", "é", "e\u0301", "ß", "ss"]),
        (["1", "01", "1.0", "true", "null"], ["1", "01", "1.0", "true", "null"]),
        (["'", '"', "\\", '\\"', "\\u0041", "{", "[]", "%s", ":tag", "a,b", "a\tb\x01\x7f\u2028c"], None),
        (["🥛", "👩\u200d👩\u200d👧", "任务", "\u200b", "\ufeff"], None),
    ],
)
def test_tags_are_trimmed_kept_in_order_and_stored_once(
    alice: Caller, sent: list[str], stored: list[str] | None
) -> None:
    """Equal means equal by code point."""
    stored = sent if stored is None else stored
    task = alice.create("x", tags=sent)
    assert task["tags"] == stored
    other = alice.create("y", tags=["other"])
    for method in ("PUT", "PATCH"):
        assert task_in(alice(method, path_of(other), json={"tags": sent}))["tags"] == stored
    assert task_in(alice.get(path_of(task))) == task
    for tag in stored:
        assert len(listed(alice, tag=tag)) == 2


# --- When a task was completed ---


def change(caller: Caller, method: str, task: Task, body: Task, if_match: str | None = None) -> Task:
    """Change a task and return it; `if_match` is a template of the header."""
    headers = {"If-Match": if_match.format(etag_of(task))} if if_match else {}
    changed = task_in(caller(method, path_of(task), json=body, headers=headers))
    assert task_in(caller.get(path_of(task))) == changed
    assert changed in listed(caller)
    return changed


@pytest.mark.parametrize("if_match", [None, "*", "{}"])
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_the_time_of_completion_follows_is_completed(alice: Caller, method: str, if_match: str | None) -> None:
    task = alice.create("x")
    bodies: list[Task] = [{"title": "y"}, {"is_completed": False}]
    for body in bodies:
        task = change(alice, method, task, body, if_match)
        assert task["completed_at"] is None
    done = change(alice, method, task, {"is_completed": True}, if_match)
    assert done["completed_at"] == done["updated_at"]
    later = done
    bodies = [{"title": "z"}, {"is_completed": True}, {"tags": ["a"], "is_completed": True}, {}]
    for body in bodies:
        later = change(alice, method, later, body, if_match)
        assert later["completed_at"] == done["completed_at"]
    assert later["updated_at"] > done["updated_at"]
    assert change(alice, method, later, {"is_completed": False}, if_match)["completed_at"] is None
    again = change(alice, method, task_in(alice.get(path_of(task))), {"is_completed": True, "title": "x"}, if_match)
    assert again["completed_at"] == again["updated_at"] > later["updated_at"]


def test_a_refused_change_leaves_the_time_of_completion(alice: Caller) -> None:
    task = alice.create("x", is_completed=True)
    stale = {"If-Match": '"2001-01-01T00:00:00.000000Z"'}
    assert alice.patch(path_of(task), json={"is_completed": False}, headers=stale).status_code == 412
    assert listed(alice) == [task]


@pytest.mark.sqlite_only
@pytest.mark.parametrize("value", [None, "2001-01-01T00:00:00.000000Z", 1, "\0", []])
def test_a_client_cannot_set_the_time_of_completion(alice: Caller, value: Any) -> None:
    assert alice.create("x", completed_at=value)["completed_at"] is None
    task = alice.create("x", is_completed=True, completed_at=value)
    assert task["completed_at"] == task["updated_at"]
    assert task_in(alice.put(path_of(task), json={"completed_at": value})) == task
    changed = task_in(alice.put(path_of(task), json={"title": "y", "completed_at": value}))
    assert changed["completed_at"] == task["completed_at"]


def test_a_bulk_change_completes_all_tasks_at_one_time(alice: Caller) -> None:
    done = alice.create("done", is_completed=True)
    for number in range(3):
        alice.create(f"{number}")
    assert alice.patch("/api/tasks?is_completed=false", json={"is_completed": True}).json == {"count": 3}
    *marked, before = listed(alice)
    assert before == done
    assert len({task["completed_at"] for task in marked}) == 1
    assert all(task["completed_at"] == task["updated_at"] > done["updated_at"] for task in marked)
    assert alice.patch("/api/tasks?is_completed=true", json={"is_completed": True}).json == {"count": 4}
    assert [task["completed_at"] for task in listed(alice)] == [task["completed_at"] for task in (*marked, before)]
    assert alice.patch("/api/tasks?is_completed=true", json={"is_completed": False}).json == {"count": 4}
    assert {task["completed_at"] for task in listed(alice)} == {None}


@pytest.fixture
def old(alice: Caller, database_url: str) -> Task:
    """A task that code which knows no `completed_at` has completed."""
    task = alice.create("old", is_completed=True)
    rows_of(database_url, "UPDATE tasks SET completed_at = NULL")
    return task


def test_a_task_completed_by_older_code_shows_its_last_change(alice: Caller, old: Task) -> None:
    assert old["completed_at"] == old["updated_at"]
    assert listed(alice) == [task_in(alice.get(path_of(old)))] == [old]
    assert task_in(alice.patch(path_of(old), json={})) == old
    body: Any = alice.get("/api/tasks/changes").json
    assert body["tasks"] == [old]


WRITES: list[tuple[str, dict[str, Any], dict[str, str]]] = [
    ("{}", {"title": "new"}, {}),
    ("{}", {"title": "new"}, {"If-Match": "*"}),
    ("{}", {"is_completed": True}, {}),
    ("?is_completed=true", {"is_completed": True}, {}),
]


@pytest.mark.parametrize(("path", "body", "headers"), WRITES)
def test_a_write_keeps_the_time_that_a_task_of_older_code_showed(
    alice: Caller, old: Task, path: str, body: Task, headers: dict[str, str]
) -> None:
    for _ in range(2):
        target = "/api/tasks" + path.format(f"/{old['id']}")
        assert alice.patch(target, json=body, headers=headers).status_code == 200
        [task] = listed(alice)
        assert task["updated_at"] > old["updated_at"]
        assert task["completed_at"] == old["updated_at"]


@pytest.mark.parametrize("path", ["/api/tasks/{}", "/api/tasks?is_completed=false"])
def test_a_task_reopened_by_older_code_is_not_completed(alice: Caller, database_url: str, path: str) -> None:
    """That code leaves `completed_at`, which then says nothing."""
    task = alice.create("x", is_completed=True)
    rows_of(database_url, "UPDATE tasks SET is_completed = false")
    reopened = task_in(alice.get(path_of(task)))
    assert reopened == task | {"is_completed": False, "completed_at": None}
    assert listed(alice) == [reopened]
    assert alice.patch(path.format(task["id"]), json={"is_completed": True}).status_code == 200
    [done] = listed(alice)
    assert done["completed_at"] == done["updated_at"] > task["updated_at"]
