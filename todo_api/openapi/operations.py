"""What each route takes and answers, in tables, as far as its view and the schemas do not say it themselves."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from marshmallow import Schema

from todo_api.cors import READABLE
from todo_api.errors import error_types
from todo_api.tasks.ownership import TASK_ID
from todo_api.tasks.schemas import LIST, TITLE_MAX, WHICH, Limit, Text
from todo_api.tasks.views import IDEMPOTENCY_KEY
from todo_api.telemetry import health  # noqa: F401
from todo_api.telemetry.requests import CLIENT_ID

TITLE = "Task API"
VERSION = "1.0.0"  # of the contract
DESCRIPTION = """\
Each user's tasks, behind JSON Web Tokens. Every request under `/api/` carries `Authorization: Bearer <JWT>`; the user
is the token's `sub` claim and nothing else.

**Errors** have one body, to branch on by `error_code`. What a request did wrong first is judged in this order: token,
size, media type, JSON, fields and parameters, task, version. An unknown path is 404 `NOT_FOUND`.

**Every answer** carries `X-Request-ID`, `Cache-Control: private, no-cache` (a browser keeps it and asks each time),
`Vary: Authorization, Origin` and `X-Content-Type-Options: nosniff`. `HEAD` works wherever `GET` does.

**Browsers.** Pages of the origins that are configured (`CORS_ORIGINS`) may call, without cookies. A preflight
(`OPTIONS` of any path here) needs no token.

**Limits.** A body: 64 KiB. Headers: 100, each up to 8,000 bytes. An address: 4,000 bytes. A user: 10,000 tasks, unless
configured otherwise. Behind the nginx that comes with the service: 20 requests a second of one token (100 more at once)
and 100 of one address (400 more at once), else 429 `RATE_LIMITED`; 200 connections of one address."""

INFO = {
    "summary": "Each user's tasks, and nobody else's.",
    "description": DESCRIPTION,
    "license": {"name": "MIT", "identifier": "MIT"},
}
TAGS = {
    "tasks": "The caller's tasks, and nobody else's.",
    "service": "What a supervisor and a developer ask; no user's token is needed.",
}

# The answers of a proxy in front: status, detail for a person. The service's own are in ERRORS.
PROXY_ERRORS = {
    "REQUEST_TIMEOUT": (408, "The request took too long to arrive."),
    "URI_TOO_LONG": (414, "The address is too long."),
    "RATE_LIMITED": (429, "Too many requests; wait before the next."),
    "BAD_GATEWAY": (502, "The service cannot be reached now."),
    "SERVICE_UNAVAILABLE": (503, "The service is busy now."),
    "GATEWAY_TIMEOUT": (504, "The service did not answer in time."),
}
ALL_ERRORS = {error.error_code: (error.status_code, error.detail) for error in error_types()} | PROXY_ERRORS

# Which codes an answer may have; their status is the same.
REFUSALS = {
    "BadRequest": ("BAD_REQUEST",),
    "BadParameters": ("BAD_REQUEST", "VALIDATION_ERROR"),
    "BadBody": ("BAD_REQUEST", "MALFORMED_JSON", "VALIDATION_ERROR"),
    "Unauthorized": ("TOKEN_MISSING", "TOKEN_EXPIRED", "TOKEN_INVALID"),
    "Forbidden": ("TASK_FORBIDDEN",),
    "NotFound": ("NOT_FOUND",),
    "TaskNotFound": ("TASK_NOT_FOUND", "NOT_FOUND"),
    "MethodNotAllowed": ("METHOD_NOT_ALLOWED",),
    "RequestTimeout": ("REQUEST_TIMEOUT",),
    "PreconditionFailed": ("PRECONDITION_FAILED",),
    "PayloadTooLarge": ("PAYLOAD_TOO_LARGE",),
    "UriTooLong": ("URI_TOO_LONG",),
    "UnsupportedMediaType": ("UNSUPPORTED_MEDIA_TYPE",),
    "Unprocessable": ("IDEMPOTENCY_KEY_REUSED", "TASK_LIMIT_REACHED"),
    "TooManyRequests": ("RATE_LIMITED",),
    "InternalError": ("INTERNAL_ERROR",),
    "BadGateway": ("BAD_GATEWAY",),
    "Busy": ("SERVICE_UNAVAILABLE",),
    "NotReady": ("NOT_READY", "SERVICE_UNAVAILABLE"),
    "Unavailable": ("DATABASE_UNAVAILABLE", "KEYS_UNAVAILABLE", "SERVICE_UNAVAILABLE"),
    "GatewayTimeout": ("GATEWAY_TIMEOUT",),
}
# What VALIDATION_ERROR may say.
WRONGS = {
    "BadParameters": {"limit": [Limit.default_error_messages["invalid"]]},
    "BadBody": {"title": [str(Text.default_error_messages["length"]).format(least=1, most=TITLE_MAX)]},
}
ANYWHERE = (
    "MethodNotAllowed",
    "RequestTimeout",
    "PayloadTooLarge",  # nginx asks no method
    "UriTooLong",
    "TooManyRequests",
    "InternalError",
    "BadGateway",
    "GatewayTimeout",
)
TASKS = (*ANYWHERE, "Unauthorized", "Unavailable")
ONE_TASK = (*TASKS, "Forbidden", "TaskNotFound")
BODY = ("BadBody", "UnsupportedMediaType")
SERVICE = (*ANYWHERE, "BadRequest", "Busy")

MOMENT = {"type": "string", "format": "date-time", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$"}
UUID7 = "^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"

COUNT = {
    "type": "object",
    "required": ["count"],
    "properties": {"count": {"type": "integer", "minimum": 0, "description": "How many tasks matched."}},
    "additionalProperties": False,
}
STATUS = {"type": "object", "required": ["status"], "properties": {"status": {"type": "string"}}}

# The fields of a task that the server sets.
SERVER_FIELDS: dict[str, dict[str, Any]] = {
    "id": {"type": "string", "format": "uuid", "pattern": UUID7, "description": "UUID, version 7, in lower case."},
    "user_id": {
        "type": "string",
        "minLength": 1,
        "maxLength": 255,
        "description": "The `sub` of the owner's token.",
    },
    "created_at": MOMENT | {"description": "RFC 3339 in UTC with microseconds."},
    "updated_at": MOMENT | {"description": "Later with every change; in quotes it is the task's `ETag`."},
}
TASK: dict[str, Any] = {
    "id": "01a1fc99-ee71-72ec-b587-48e127eeb180",
    "user_id": "alice",
    "title": "Buy milk",
    "description": "2 l",
    "is_completed": False,
    "created_at": "2026-02-08T09:30:00.123456Z",
    "updated_at": "2026-02-08T09:30:00.123456Z",
}
TAG = f'"{TASK["updated_at"]}"'
CURSOR = "T2m7mYw1c2N4ZHE3AaH8me5xcuy1h0jhJ-6xgDIwMjYtMDItMDhUMDk6MzA6MDAuMTIzNDU2Wg"
BODY_EXAMPLES: dict[str, Any] = {
    "NewTask": {"title": "Buy milk", "description": "2 l"},
    "TaskChanges": {"is_completed": True},
    "Mark": {"is_completed": True},
}

# name: description, schema, example
HEADER_PARAMETERS: dict[str, tuple[str, dict[str, Any], str]] = {
    "X-Request-ID": (
        f"Names the request in answer and log when it is `{CLIENT_ID.pattern}`; else the service makes a name.",
        {"type": "string"},
        "web-7f3a",
    ),
    "If-Match": (
        "Only if the task has one of these versions (`ETag`), else 412; `*`: whatever version. Weak tags count.",
        {"type": "string"},
        TAG,
    ),
    "If-None-Match": ("The `ETag` of what the client has: 304 when that still holds.", {"type": "string"}, TAG),
    "Idempotency-Key": (
        "Makes a retry safe: one task for all calls of this user with the same key and body. Any visible ASCII but the "
        "comma.",
        {"type": "string", "minLength": 1, "maxLength": 255, "pattern": f"^{IDEMPOTENCY_KEY.pattern}$"},
        "0f8f4f0e-3c55-4a6e-9a0f-2f6d1b7c9e21",
    ),
}
PATH_PARAMETERS: dict[str, tuple[str, dict[str, Any], str]] = {
    "id": (
        "The task's `id`, in either case; another form is 404 `TASK_NOT_FOUND`.",
        {"type": "string", "format": "uuid", "pattern": f"^{TASK_ID.pattern}$"},
        TASK["id"],
    )
}


class Header(NamedTuple):
    """A header of an answer: `always` when each answer that may have it has it."""

    description: str
    schema: dict[str, Any]
    example: Any
    always: bool = True


HEADERS = {
    "X-Request-ID": Header(
        "The client's, or one made here; the log has it too.",
        {"type": "string", "pattern": f"^{CLIENT_ID.pattern}$"},
        "web-7f3a",
    ),
    "Cache-Control": Header("Browsers keep an answer and ask each time.", {"type": "string"}, "private, no-cache"),
    "Vary": Header("An answer is for one token and one origin.", {"type": "string"}, "Authorization, Origin"),
    "X-Content-Type-Options": Header("Nothing is to be guessed.", {"type": "string", "const": "nosniff"}, "nosniff"),
    "Access-Control-Allow-Origin": Header(
        "To a page of another origin that may read the answer: that origin.",
        {"type": "string"},
        "https://app.example.com",
        False,
    ),
    "Access-Control-Expose-Headers": Header(
        "To such a page: which headers it may read.", {"type": "string", "const": READABLE}, READABLE, False
    ),
    "Server-Timing": Header(
        "In development: where the time went, in ms.",
        {"type": "string", "pattern": "^auth;dur=[0-9.]+, db;dur=[0-9.]+, total;dur=[0-9.]+$"},
        "auth;dur=0.05, db;dur=1.20, total;dur=1.93",
        False,
    ),
    "ETag": Header(
        "The version, for `If-None-Match`; a task's is its `updated_at` in quotes, for `If-Match` too.",
        {"type": "string", "pattern": '^(W/)?"[^"]+"$'},
        TAG,
    ),
    "Content-Security-Policy": Header(
        "What the page may load: from here alone.", {"type": "string"}, "default-src 'none'; script-src 'self'"
    ),
    "Location": Header(
        "The path of the task.",
        {"type": "string", "pattern": "^/api/tasks/[0-9a-f-]{36}$"},
        f"/api/tasks/{TASK['id']}",
    ),
    "Idempotency-Replayed": Header(
        "When an earlier call with this key made the task.", {"type": "string", "const": "true"}, "true", False
    ),
    "Link": Header(
        "The next page; the last one has none.",
        {"type": "string", "pattern": '^</api/tasks\\?.+>; rel="next"$'},
        f'</api/tasks?limit=50&cursor={CURSOR}>; rel="next"',
        False,
    ),
    "X-Next-Cursor": Header("The `cursor` of the next page; the last one has none.", {"type": "string"}, CURSOR, False),
    "X-Total-Count": Header(
        "With `include_total=true`: how many tasks match.", {"type": "integer", "minimum": 0}, 137, False
    ),
    "WWW-Authenticate": Header(
        '`Bearer`, with `error="invalid_token"` when there was a token.',
        {"type": "string", "enum": ["Bearer", 'Bearer error="invalid_token"']},
        "Bearer",
    ),
    "Allow": Header("The methods of this path.", {"type": "string"}, "GET, HEAD, OPTIONS"),
    "Retry-After": Header("Seconds to wait.", {"type": "integer", "minimum": 1}, 2),
}
COMMON_HEADERS = (
    "X-Request-ID",
    "Cache-Control",
    "Vary",
    "X-Content-Type-Options",
    "Access-Control-Allow-Origin",
    "Access-Control-Expose-Headers",
    "Server-Timing",
)
ERROR_HEADERS = {401: "WWW-Authenticate", 405: "Allow", 429: "Retry-After", 503: "Retry-After"}


def reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


@dataclass(frozen=True)
class Answer:
    """What a route says when all is well."""

    description: str
    schema: dict[str, Any] | None = None
    example: Any = None
    headers: tuple[str, ...] = ()
    media_type: str = "application/json"


@dataclass(frozen=True)
class Operation:
    """What a client should know of a method of a route; below /api/ it needs a user's token."""

    id: str
    answers: dict[int, Answer]
    refusals: tuple[str, ...]
    headers: tuple[str, ...] = ()
    parameters: Schema | None = None
    body: str | None = None
    description: str = ""
    security: tuple[dict[str, list[str]], ...] = ()


ONE = Answer("The task.", reference("Task"), TASK, ("ETag",))
UPDATED = Answer("The task as it is now.", reference("Task"), TASK | {"is_completed": True}, ("ETag",))
COUNTED = Answer("How many there were.", reference("Count"), {"count": 3})
NOT_MODIFIED = Answer("What the client has still holds.", headers=("ETag",))
UPDATE = Operation(
    "putTask",
    {200: UPDATED},
    (*ONE_TASK, *BODY, "PreconditionFailed"),
    ("If-Match",),
    body="TaskChanges",
    description="Only the fields sent are changed; `PUT` and `PATCH` do the same. `{}` changes nothing, `updated_at` "
    "included.",
)

OPERATIONS = {
    "GET /api/tasks": Operation(
        "listTasks",
        {
            200: Answer(
                "The tasks.",
                {"type": "array", "items": reference("Task")},
                [TASK],
                ("ETag", "Link", "X-Next-Cursor", "X-Total-Count"),
            ),
            304: NOT_MODIFIED,
        },
        (*TASKS, "BadParameters"),
        ("If-None-Match",),
        parameters=LIST,
        description="Newest first. Following `Link` or `X-Next-Cursor` visits every task that was there throughout, "
        "and whose sort value did not change, exactly once. An unknown or repeated parameter is refused.",
    ),
    "POST /api/tasks": Operation(
        "createTask",
        {
            201: Answer(
                "The new task, or with `Idempotency-Replayed` the one that this key made before.",
                reference("Task"),
                TASK,
                ("ETag", "Location", "Idempotency-Replayed"),
            )
        },
        (*TASKS, *BODY, "Unprocessable"),
        ("Idempotency-Key",),
        body="NewTask",
        description="Takes no query parameter. `Idempotency-Key` makes a retry safe as long as the task is there.",
    ),
    "PATCH /api/tasks": Operation(
        "markTasks",
        {200: COUNTED},
        (*TASKS, *BODY),
        parameters=WHICH,
        body="Mark",
        description="All that match, in one statement.",
    ),
    "DELETE /api/tasks": Operation(
        "deleteTasks",
        {200: COUNTED},
        (*TASKS, "BadParameters"),
        parameters=WHICH,
        description="All that match, in one statement.",
    ),
    "GET /api/tasks/{id}": Operation(
        "getTask",
        {200: ONE, 304: NOT_MODIFIED},
        (*ONE_TASK, "BadRequest"),
        ("If-None-Match",),
    ),
    "PUT /api/tasks/{id}": UPDATE,
    "PATCH /api/tasks/{id}": replace(UPDATE, id="updateTask"),
    "DELETE /api/tasks/{id}": Operation(
        "deleteTask",
        {204: Answer("It is gone.")},
        (*ONE_TASK, "BadRequest", "PreconditionFailed"),
        ("If-Match",),
    ),
    "GET /health/live": Operation(
        "getLiveness", {200: Answer("It answers.", reference("Status"), {"status": "ok"})}, SERVICE
    ),
    "GET /health/ready": Operation(
        "getReadiness",
        {200: Answer("It can serve.", reference("Status"), {"status": "ready"})},
        (*ANYWHERE, "BadRequest", "NotFound", "NotReady"),
        description="For a supervisor beside the service: the nginx that comes with it answers 404.",
    ),
    "GET /metrics": Operation(
        "getMetrics",
        {200: Answer("Metrics in the text format of Prometheus.", {"type": "string"}, media_type="text/plain")},
        (*SERVICE, "Unauthorized", "NotFound"),
        description="Open in development. Elsewhere 404, unless `METRICS_TOKEN` is configured and sent.",
        security=({}, {"metricsToken": []}),
    ),
    "GET /openapi.json": Operation(
        "getOpenApi", {200: Answer("An OpenAPI 3.1 document.", {"type": "object"})}, SERVICE
    ),
    "GET /docs": Operation(
        "getDocs",
        {
            200: Answer(
                "A page.", {"type": "string"}, headers=("ETag", "Content-Security-Policy"), media_type="text/html"
            ),
            304: Answer(NOT_MODIFIED.description, headers=("ETag", "Content-Security-Policy")),
        },
        SERVICE,
        ("If-None-Match",),
    ),
}
SECURITY_SCHEMES = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "With `exp` and `sub`: your Better Auth's, or in development without one of `flask token USER`.",
    },
    "metricsToken": {"type": "http", "scheme": "bearer", "description": "What `METRICS_TOKEN` is configured to be."},
}
