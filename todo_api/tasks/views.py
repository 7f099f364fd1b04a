"""The tasks blueprint: one short view per route."""

import re
from urllib.parse import urlencode

from flask import Blueprint, Flask, Response, request
from marshmallow import ValidationError
from werkzeug.routing import BaseConverter

from todo_api.auth import current_user_id, jwt_required
from todo_api.etags import Tags, tags_of
from todo_api.responses import JSONResponse
from todo_api.tasks.ownership import OwnedTasks, Page, StoredTask
from todo_api.tasks.pagination import DEFAULT_QUERY, Query
from todo_api.tasks.parsing import body, parameters
from todo_api.tasks.schemas import CHANGES, COMPLETION, FEED, LIST, NEW_TASK, NO_PARAMETERS, SELECTION

IDEMPOTENCY_KEY = re.compile("[!-+\\--~]{1,255}")  # visible ASCII but the comma


class TaskConverter(BaseConverter):
    """An id in a path: anything but the name of another route, which has its own methods."""

    regex = r"(?!changes\Z)[^/]+"


blueprint = Blueprint("tasks", __name__, url_prefix="/api/tasks")


@blueprint.get("")
@jwt_required
def list_tasks() -> Response:
    """List the caller's tasks."""
    query = Query(**parameters(LIST)) if request.query_string else DEFAULT_QUERY  # saves 8 µs
    page = current_user_tasks().list(query, if_none_match=sent_tags("If-None-Match"))
    response = page_response(page)
    if page.next_cursor:
        following = urlencode(query.parameters_after(page.next_cursor), doseq=True)
        response.headers["Link"] = f'</api/tasks?{following}>; rel="next"'
        response.headers["X-Next-Cursor"] = page.next_cursor
    if page.total is not None:
        response.headers["X-Total-Count"] = page.total
    return response


@blueprint.get("/changes")
@jwt_required
def list_changes() -> Response:
    """List what was created, changed and deleted since a token."""
    tags = sent_tags("If-None-Match")
    return page_response(current_user_tasks().changes(**parameters(FEED), if_none_match=tags))


@blueprint.post("")
@jwt_required
def create_task() -> Response:
    """Create a task."""
    fields = body(NEW_TASK)
    if request.query_string:
        parameters(NO_PARAMETERS)
    task = current_user_tasks().create(**fields, key=idempotency_key())
    response = task_response(task, 201)
    response.headers["Location"] = f"/api/tasks/{task.id}"
    if task.replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return response


@blueprint.patch("")
@jwt_required
def mark_tasks() -> Response:
    """Mark all tasks that are completed as open, or all open ones as completed."""
    mark = body(COMPLETION)["is_completed"]
    return json_response(f'{{"count": {current_user_tasks().mark_all(mark=mark, **parameters(SELECTION))}}}')


@blueprint.delete("")
@jwt_required
def delete_tasks() -> Response:
    """Delete all tasks that are completed, or all that are not."""
    return json_response(f'{{"count": {current_user_tasks().delete_all(**parameters(SELECTION))}}}')


@blueprint.get("/<task:task_id>")
@jwt_required
def get_task(task_id: str) -> Response:
    """Get a task."""
    task = current_user_tasks().get(task_id)
    known = sent_tags("If-None-Match")
    if known and known.match(task.version):
        return empty_response(304, task.version)
    return task_response(task)


@blueprint.route("/<task:task_id>", methods=["PUT", "PATCH"])
@jwt_required
def update_task(task_id: str) -> Response:
    """Change some fields of a task."""
    return task_response(current_user_tasks().update(task_id, body(CHANGES), if_match=sent_tags("If-Match")))


@blueprint.delete("/<task:task_id>")
@jwt_required
def delete_task(task_id: str) -> Response:
    """Delete a task."""
    current_user_tasks().delete(task_id, if_match=sent_tags("If-Match"))
    return empty_response(204)


def current_user_tasks() -> OwnedTasks:
    return OwnedTasks(current_user_id())


def sent_tags(header: str) -> Tags | None:
    return tags_of(request.headers.get(header))


def idempotency_key() -> str | None:
    """Return the key of the header, None without one; a repeated header arrives joined by a comma."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not IDEMPOTENCY_KEY.fullmatch(key):
        raise ValidationError(
            {"Idempotency-Key": ["Must be one value of 1 to 255 visible ASCII characters, no comma."]}
        )
    return key


def json_response(document: str | bytes, status: int = 200, tag: str | None = None) -> Response:
    response = JSONResponse(document, status)
    if tag:
        response.headers["ETag"] = f'"{tag}"'
    return response


def task_response(task: StoredTask, status: int = 200) -> Response:
    return json_response(task.json, status, task.version)


def page_response(page: Page) -> Response:
    return empty_response(304, page.tag) if page.json is None else json_response(page.json, tag=page.tag)


def empty_response(status: int, tag: str | None = None) -> Response:
    response = json_response("", status, tag)
    del response.headers["Content-Type"]
    return response


def init_app(app: Flask) -> None:
    app.url_map.converters["task"] = TaskConverter
    app.register_blueprint(blueprint)
