"""What the OpenAPI document says about each operation, as far as its view and the schemas do not say it.

A new route needs an entry in OPERATIONS, a new error its class in the operations that return it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from marshmallow import Schema

from todo_api import auth, database, errors, tasks
from todo_api.cors import EXPOSED_HEADERS
from todo_api.errors import ApiError
from todo_api.tasks import CHANGES, LIST, MARK, NEW_TASK, WHICH
from todo_api.telemetry import REQUEST_ID_PATTERN, NotReady

TITLE = "Task API"
VERSION = "1.0.0"  # of the contract
INFO = {
    "summary": "A REST API for personal tasks",
    "description": Path(__file__).with_name("description.md").read_text(encoding="utf-8"),
    "license": {"name": "MIT", "identifier": "MIT"},
}
TAGS = {
    "tasks": "The tasks of the authenticated user.",
    "service": "Health checks, metrics and documentation. No user token is needed.",
}
SECURITY_SCHEMES = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A JWT from Better Auth; see above.",
    },
    "metricsToken": {"type": "http", "scheme": "bearer", "description": "The configured `METRICS_TOKEN`."},
}

Json = dict[str, Any]

# --- Errors: status, code and detail come from the classes --------------------------------------------------------


class ProxyError(NamedTuple):
    """An error of nginx. deploy/nginx.conf has the same texts."""

    status_code: int
    error_code: str
    detail: str
    headers: tuple[str, ...] = ()


Errors = tuple[type[ApiError] | ProxyError, ...]
ANYWHERE: Errors = (
    errors.BadRequest,
    errors.MethodNotAllowed,
    errors.PayloadTooLarge,
    errors.Unavailable,
    ApiError,
    ProxyError(408, "REQUEST_TIMEOUT", "The request took too long to arrive."),
    ProxyError(414, "URI_TOO_LONG", "The URL is too long."),
    ProxyError(429, "RATE_LIMITED", "Too many requests; wait before the next.", ("Retry-After",)),
    ProxyError(502, "BAD_GATEWAY", "The service cannot be reached."),
    ProxyError(504, "GATEWAY_TIMEOUT", "The service did not respond in time."),
)
AUTHENTICATION: Errors = (auth.TokenMissing, auth.TokenExpired, auth.TokenInvalid, auth.KeysUnavailable)
TASKS: Errors = (*ANYWHERE, *AUTHENTICATION, database.DatabaseUnavailable)
ONE_TASK: Errors = (*TASKS, tasks.TaskForbidden, tasks.TaskNotFound, errors.NotFound)
BODY: Errors = (errors.UnsupportedMediaType, tasks.MalformedJSON, errors.InvalidInput)

# --- Examples and schemas -----------------------------------------------------------------------------------------

TASK = {name: field.metadata["examples"][0] for name, field in NEW_TASK.fields.items()}
ETAG = f'"{TASK["updated_at"]}"'
BODIES: dict[str, tuple[Schema, Json]] = {
    "NewTask": (NEW_TASK, {name: TASK[name] for name in NEW_TASK.load_fields}),
    "TaskChanges": (CHANGES, {"is_completed": True}),
    "Mark": (MARK, {"is_completed": True}),
}
COUNT = {"type": "integer", "minimum": 0, "description": "The number of matching tasks."}
RESULTS: dict[str, Json] = {
    "Count": {"type": "object", "required": ["count"], "properties": {"count": COUNT}, "additionalProperties": False},
    "Status": {"type": "object", "required": ["status"], "properties": {"status": {"type": "string"}}},
}


def reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def parameter(description: str, example: str | None = None, *, required: bool = True, **schema: Any) -> Json:
    """Return a Parameter Object of OpenAPI, or a Header Object, which has the same form."""
    shown = {} if example is None else {"example": example}
    return {"description": description, "required": required, "schema": {"type": "string"} | schema, **shown}


optional = partial(parameter, required=False)

PARAMETERS = {
    "X-Request-ID": optional(
        f"ID of the request in the logs. One that does not match `{REQUEST_ID_PATTERN}` is replaced.", "web-7f3a"
    ),
    "If-Match": optional(
        "`ETag` of the version to change: if the task has another one, the response is 412. `*` matches any.", ETAG
    ),
    "If-None-Match": optional("`ETag` of the cached response: if it is still current, the response is 304.", ETAG),
    "Idempotency-Key": optional(
        "Makes retries safe: requests with the same key and body create one task. Visible ASCII without commas.",
        "0f8f4f0e-3c55-4a6e-9a0f-2f6d1b7c9e21",
        minLength=1,
        maxLength=255,
        pattern=f"^{tasks.IDEMPOTENCY_KEY.pattern}$",
    ),
    "id": parameter(
        "Task ID, in upper or lower case. A malformed ID returns 404 `TASK_NOT_FOUND`.",
        TASK["id"],
        format="uuid",
        pattern=f"^{tasks.TASK_ID.pattern}$",
    ),
}
TIMING = "^auth;dur=[0-9.]+, db;dur=[0-9.]+, total;dur=[0-9.]+$"
COMMON_HEADERS = {
    "X-Request-ID": parameter("The request ID: the client's, or a generated one.", pattern=f"^{REQUEST_ID_PATTERN}$"),
    "Cache-Control": parameter("A cached response must be revalidated before it is used."),
    "Vary": parameter("The response depends on the token and on the origin."),
    "X-Content-Type-Options": parameter("Disables content sniffing.", const="nosniff"),
    "Access-Control-Allow-Origin": optional("The origin of the page, if it may read the response."),
    "Access-Control-Expose-Headers": optional("The response headers that the page may read.", const=EXPOSED_HEADERS),
    "Server-Timing": optional("Development only: durations in milliseconds.", pattern=TIMING),
}
HEADERS = COMMON_HEADERS | {
    "ETag": parameter(
        "Version of the response for `If-None-Match`, and of a task for `If-Match`.", ETAG, pattern='^(W/)?"[^"]+"$'
    ),
    "Content-Security-Policy": parameter("The page loads resources of its own origin only."),
    "Location": parameter("Path of the task.", pattern="^/api/tasks/[0-9a-f-]{36}$"),
    "Idempotency-Replayed": optional("An earlier request with this key created the task.", const="true"),
    "Link": optional("The next page; absent on the last page.", pattern='^</api/tasks\\?.+>; rel="next"$'),
    "X-Next-Cursor": optional("`cursor` of the next page; absent on the last page."),
    "X-Total-Count": optional("The number of matching tasks.", type="integer", minimum=0),
    "WWW-Authenticate": parameter(
        "With `invalid_token` if a token was sent.", enum=["Bearer", 'Bearer error="invalid_token"']
    ),
    "Allow": parameter("The methods that this path supports."),
    "Retry-After": parameter("Seconds to wait before the next request.", type="integer", minimum=1),
}


def response(
    description: str,
    schema: Json | None = None,
    example: Any = None,
    headers: Iterable[str] = (),
    media_type: str = "application/json",
) -> Json:
    described: Json = {"description": description, "headers": {name: name for name in (*headers, *COMMON_HEADERS)}}
    if schema:
        described["content"] = {media_type: {"schema": schema} | ({"example": example} if example else {})}
    return described


@dataclass(frozen=True)
class Operation:
    """A method of a route. Its summary is the first sentence of the view's docstring."""

    id: str
    responses: dict[int, Any]
    errors: Errors
    headers: tuple[str, ...] = ()
    query: Schema | None = None
    body: str | None = None
    description: str = ""
    security: tuple[dict[str, list[str]], ...] = ()  # below /api/, a user token is needed anyway


ONE = response("The task.", reference("Task"), TASK, ["ETag"])
UPDATED = response("The updated task.", reference("Task"), TASK | {"is_completed": True}, ["ETag"])
CREATED = response("The created task.", reference("Task"), TASK, ["ETag", "Location", "Idempotency-Replayed"])
LISTED = response(
    "The tasks.",
    {"type": "array", "items": reference("Task")},
    [TASK],
    ["ETag", "Link", "X-Next-Cursor", "X-Total-Count"],
)
COUNTED = response("The number of matching tasks.", reference("Count"), {"count": 3})
NOT_MODIFIED = response("The cached response is still current.", headers=["ETag"])
PAGE = ["ETag", "Content-Security-Policy"]
UPDATE = Operation(
    "putTask",
    {200: UPDATED},
    (*ONE_TASK, *BODY, tasks.PreconditionFailed),
    ("If-Match",),
    body="TaskChanges",
    description="Changes only the fields that are sent; `PUT` and `PATCH` are equivalent. An empty object changes "
    "nothing, not even `updated_at`.",
)

OPERATIONS = {
    "GET /api/tasks": Operation(
        "listTasks",
        {200: LISTED, 304: NOT_MODIFIED},
        (*TASKS, errors.InvalidInput),
        ("If-None-Match",),
        query=LIST,
        description="Following `Link` or `X-Next-Cursor` visits every task exactly once if it exists throughout and "
        "its sort value does not change. Unknown or repeated parameters are rejected.",
    ),
    "POST /api/tasks": Operation(
        "createTask",
        {201: CREATED},
        (*TASKS, *BODY, tasks.IdempotencyKeyReused, tasks.TaskLimitReached),
        ("Idempotency-Key",),
        body="NewTask",
        description="Query parameters are rejected. An `Idempotency-Key` is valid until its task is deleted.",
    ),
    "PATCH /api/tasks": Operation(
        "markTasks",
        {200: COUNTED},
        (*TASKS, *BODY),
        query=WHICH,
        body="Mark",
        description="Changes all matching tasks, or none if the request fails.",
    ),
    "DELETE /api/tasks": Operation(
        "deleteTasks",
        {200: COUNTED},
        (*TASKS, errors.InvalidInput),
        query=WHICH,
        description="Deletes all matching tasks, or none if the request fails.",
    ),
    "GET /api/tasks/{id}": Operation("getTask", {200: ONE, 304: NOT_MODIFIED}, ONE_TASK, ("If-None-Match",)),
    "PUT /api/tasks/{id}": UPDATE,
    "PATCH /api/tasks/{id}": replace(UPDATE, id="updateTask"),
    "DELETE /api/tasks/{id}": Operation(
        "deleteTask",
        {204: response("The task is deleted.")},
        (*ONE_TASK, tasks.PreconditionFailed),
        ("If-Match",),
    ),
    "GET /health/live": Operation(
        "getLiveness", {200: response("The process responds.", reference("Status"), {"status": "ok"})}, ANYWHERE
    ),
    "GET /health/ready": Operation(
        "getReadiness",
        {200: response("The service can handle requests.", reference("Status"), {"status": "ready"})},
        (*ANYWHERE, errors.NotFound, NotReady),
        description="For a supervisor on the same host: the nginx that comes with the service returns 404.",
    ),
    "GET /metrics": Operation(
        "getMetrics",
        {200: response("Metrics in the Prometheus text format.", {"type": "string"}, media_type="text/plain")},
        (*ANYWHERE, auth.TokenMissing, auth.TokenInvalid, errors.NotFound),
        description="Public in development. Otherwise 404, unless `METRICS_TOKEN` is configured and sent.",
        security=({}, {"metricsToken": []}),
    ),
    "GET /openapi.json": Operation(
        "getOpenApi", {200: response("The OpenAPI 3.1 document.", {"type": "object"})}, ANYWHERE
    ),
    "GET /docs": Operation(
        "getDocs",
        {
            200: response("The page.", {"type": "string"}, headers=PAGE, media_type="text/html"),
            304: response("The cached response is still current.", headers=PAGE),
        },
        ANYWHERE,
        ("If-None-Match",),
    ),
}
