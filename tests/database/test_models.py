"""The models through `db.session`, as a developer uses them in the shell."""

import re
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select

from tests.conftest import Caller
from todo_api.extensions import db
from todo_api.models import Task, User, new_task_id

INDIA = timezone(timedelta(hours=5, minutes=30))
UUID7 = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def store(app: Flask, *rows: User | Task) -> None:
    """Store the rows in a new application context."""
    with app.app_context():
        for row in rows:
            db.session.add(row)
            db.session.flush()
        db.session.commit()


def the_task(app: Flask) -> Task:
    """Read the only task in a new application context."""
    with app.app_context():
        return db.session.scalars(select(Task)).one()


def the_user(app: Flask) -> User:
    with app.app_context():
        return db.session.scalars(select(User)).one()


@pytest.mark.parametrize("microsecond", [0, 123_456])
def test_a_task_comes_back_as_it_was_stored(app: Flask, microsecond: int) -> None:
    task_id = new_task_id()
    created = datetime(2026, 2, 8, 9, 30, 0, microsecond, tzinfo=UTC)
    values = {
        "user_id": "alice",
        "id": task_id,
        "title": "Étude 任务 🎹",
        "description": "",
        "is_completed": True,
        "created_at": created,
        "updated_at": created + timedelta(days=1),
        "idempotency_key": "key-1",
        "idempotency_digest": b"\x00\xff",
        "due_date": date(2026, 2, 8),
        "priority": "high",
        "tags": ["Étude", "🎹", '"'],
        "completed_at": created + timedelta(hours=1),
    }
    store(app, User(id="alice", created_at=created), Task(**values))
    task = the_task(app)
    assert {name: getattr(task, name) for name in values} == values
    assert the_user(app).created_at == created
    with app.app_context():
        assert db.session.get(Task, ("alice", task_id)) is not None
        assert db.session.get(Task, ("bob", task_id)) is None


def test_times_of_any_zone_come_back_in_utc(app: Flask) -> None:
    given = datetime(2026, 2, 8, 1, 0, 0, 123456, tzinfo=INDIA)
    store(app, User(id="alice", created_at=given), Task(user_id="alice", title="x", created_at=given, updated_at=given))
    task = the_task(app)
    for read in (task.created_at, task.updated_at, the_user(app).created_at):
        assert read == given
        assert read.utcoffset() == timedelta(0)
        assert read.isoformat() == "2026-02-07T19:30:00.123456+00:00"


def test_defaults(app: Flask) -> None:
    before = datetime.now(UTC)
    store(app, User(id="alice"), Task(user_id="alice", title="Buy milk"))
    after = datetime.now(UTC)
    task = the_task(app)
    assert UUID7.fullmatch(task.id)
    assert (task.description, task.is_completed) == (None, False)
    assert (task.idempotency_key, task.idempotency_digest) == (None, None)
    assert (task.due_date, task.priority, task.tags, task.completed_at) == (None, None, [], None)
    for time in (task.created_at, task.updated_at, the_user(app).created_at):
        assert before <= time <= after


def test_ids_are_unique_and_sort_by_time() -> None:
    ids = [new_task_id() for _ in range(1000)]
    assert all(UUID7.fullmatch(it) for it in ids)
    assert ids == sorted(set(ids))


def test_the_service_and_the_models_read_each_others_tasks(app: Flask, alice: Caller) -> None:
    more: dict[str, Any] = {"due_date": "2026-02-08", "priority": "low", "tags": ["Étude", "🎹", '"\\']}
    created = alice.create("Buy milk", description="2 l", is_completed=True, **more)
    task = the_task(app)
    times: dict[str, Any] = {
        name: datetime.fromisoformat(created[name]) for name in ("created_at", "updated_at", "completed_at")
    }
    assert {name: getattr(task, name) for name in created} == created | times | {"due_date": date(2026, 2, 8)}
    time = datetime(2026, 2, 8, 15, 0, 0, 120000, tzinfo=INDIA)
    task = Task(user_id="alice", id=new_task_id(), title="x", created_at=time, updated_at=time)
    task.due_date, task.priority, task.tags = date(1, 1, 1), "high", more["tags"]
    store(app, task)
    listed: Any = alice.get("/api/tasks").json
    assert listed[0] == created
    assert {listed[1][name] for name in ("created_at", "updated_at")} == {"2026-02-08T09:30:00.120000Z"}
    assert [listed[1][name] for name in more] == ["0001-01-01", "high", more["tags"]]
    assert alice.get("/api/tasks", query_string={"tag": more["tags"], "due_to": "0001-01-01"}).json == listed[1:]


@pytest.mark.sqlite_only
def test_a_context_that_ends_without_a_commit_leaves_nothing(app: Flask) -> None:
    with app.app_context():
        db.session.add(User(id="alice"))
        db.session.flush()
    with app.app_context():
        assert db.session.get(User, "alice") is None


def test_the_representation_of_a_task_names_its_owner() -> None:
    task = Task(user_id="alice", id=new_task_id(), title="Buy milk", description="at the corner")
    assert repr(task) == f"<Task {task.id} of 'alice': 'Buy milk'>"
