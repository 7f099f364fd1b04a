"""The tasks blueprint: one short view per route."""

from typing import Any

from flask import Blueprint, Flask, Response, request
from marshmallow import Schema
from werkzeug.exceptions import HTTPException

from todo_api.auth import current_user_id, jwt_required
from todo_api.config import MAX_BODY_BYTES
from todo_api.errors import ApiError, error_response
from todo_api.ownership import OwnedTasks, TaskForbidden, TaskLimitReached, TaskNotFound
from todo_api.schemas import CHANGES, NEW_TASK, MalformedJSON, parse_object

blueprint = Blueprint("tasks", __name__, url_prefix="/api/tasks")


@blueprint.get("")
@jwt_required
def list_tasks() -> Response:
    return json_response(own_tasks().list())


@blueprint.post("")
@jwt_required
def create_task() -> Response:
    task_id, task = own_tasks().create(**body(NEW_TASK))
    response = json_response(task, 201)
    response.headers["Location"] = f"/api/tasks/{task_id}"
    return response


@blueprint.get("/<task_id>")
@jwt_required
def get_task(task_id: str) -> Response:
    return json_response(own_tasks().get(task_id))


@blueprint.route("/<task_id>", methods=["PUT", "PATCH"])
@jwt_required
def update_task(task_id: str) -> Response:
    return json_response(own_tasks().update(task_id, body(CHANGES)))


@blueprint.delete("/<task_id>")
@jwt_required
def delete_task(task_id: str) -> Response:
    own_tasks().delete(task_id)
    response = Response(status=204)
    del response.headers["Content-Type"]
    return response


def own_tasks() -> OwnedTasks:
    return OwnedTasks(current_user_id())


def body(schema: Schema) -> dict[str, Any]:
    """Return the validated body; judged in the order size, media type, JSON, fields."""
    try:
        raw = request.get_data(cache=False)
    except HTTPException:
        raise
    except Exception as error:  # each server has its own for broken chunks and clients that hang up
        raise ApiError("BAD_REQUEST", "The body cannot be read.") from error
    if len(raw) > MAX_BODY_BYTES:
        raise ApiError("PAYLOAD_TOO_LARGE")
    if request.content_length is not None and len(raw) < request.content_length:
        raise ApiError("BAD_REQUEST", "The body is shorter than its Content-Length.")
    if request.mimetype != "application/json":
        raise ApiError("UNSUPPORTED_MEDIA_TYPE")
    fields: dict[str, Any] = schema.load(parse_object(raw))
    return fields


def json_response(document: str, status: int = 200) -> Response:
    return Response(document, status, mimetype="application/json")


@blueprint.errorhandler(MalformedJSON)
def malformed_json(error: MalformedJSON) -> Response:
    return error_response("MALFORMED_JSON", str(error))


@blueprint.errorhandler(TaskNotFound)
def task_not_found(_: TaskNotFound) -> Response:
    return error_response("TASK_NOT_FOUND")


@blueprint.errorhandler(TaskForbidden)
def task_forbidden(_: TaskForbidden) -> Response:
    return error_response("TASK_FORBIDDEN")


@blueprint.errorhandler(TaskLimitReached)
def task_limit_reached(_: TaskLimitReached) -> Response:
    return error_response("TASK_LIMIT_REACHED")


def init_app(app: Flask) -> None:
    app.register_blueprint(blueprint)
