"""Helpers for requests about tasks."""

from typing import Any, TypeAlias, cast

from flask import Flask
from sqlalchemy import text
from werkzeug.test import TestResponse

from tests.conftest import Caller, assert_error
from todo_api.extensions import db

Task: TypeAlias = dict[str, Any]

PRIORITIES = ["low", "medium", "high"]


def path_of(task: Task) -> str:
    return f"/api/tasks/{task['id']}"


def etag_of(task: Task) -> str:
    return f'"{task["updated_at"]}"'


def task_in(response: TestResponse, status: int = 200) -> Task:
    """Return the task of a response, after checking its status and its ETag."""
    assert response.status_code == status, response.text
    task = cast(Task, response.json)
    assert response.headers.getlist("ETag") == [etag_of(task)]
    return task


def listed(caller: Caller, **parameters: Any) -> list[Task]:
    """Return the tasks of a list with these parameters."""
    response = caller.get("/api/tasks", query_string=parameters)
    assert response.status_code == 200, response.text
    return cast(list[Task], response.json)


def ids(tasks: list[Task]) -> list[str]:
    return [task["id"] for task in tasks]


def assert_invalid(response: TestResponse, *names: str) -> dict[str, list[str]]:
    """Assert that the request is rejected for exactly these fields, parameters or headers; return the messages."""
    errors: dict[str, list[str]] = assert_error(response, 400, "VALIDATION_ERROR")["errors"]
    assert set(errors) == set(names)
    return errors


def in_order(tasks: list[Task], sort: str) -> list[Task]:
    """Return the tasks as the API sorts them: those without a value last in both directions."""
    column, reverse = sort.removeprefix("-"), sort.startswith("-")

    def place(task: Task) -> tuple[Any, str]:
        value = task[column]
        return PRIORITIES.index(value) if column == "priority" and value else value or "", task["id"]

    having, missing = ([task for task in tasks if (task[column] is None) == lacks] for lacks in (False, True))
    return sorted(having, key=place, reverse=reverse) + sorted(missing, key=place, reverse=reverse)


def set_times(app: Flask, **days: dict[str, str]) -> None:
    """Store times that the server would not set: `created_at={id: "09"}` is 9 February 2001."""
    with app.app_context(), db.engine.begin() as connection:
        for column, by_id in days.items():
            for task_id, day in by_id.items():
                values = {"time": f"2001-02-{day}T09:30:00.123456Z", "id": task_id}
                connection.execute(text(f"UPDATE tasks SET {column} = :time WHERE id = :id"), values)
