"""What every request has: an id, the common headers of its response, and a record for the log and the metrics."""

import logging
import re
import time
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

from flask import Request
from uuid_utils import uuid4

from todo_api.auth import AUTH_SECONDS, IDENTITY, Identity
from todo_api.database import get_database
from todo_api.extensions import TaskAPI
from todo_api.responses import ERROR

TOOL = "todo_api.tool"  # key of the WSGI environment: the tool of the MCP server that is called
REQUEST_ID = re.compile("[A-Za-z0-9._-]{1,128}")
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
COMMON_HEADERS = (("Vary", "Authorization, Origin"), ("X-Content-Type-Options", "nosniff"))
CACHE_CONTROL = ("Cache-Control", "private, no-cache")


class RequestRecord(logging.LogRecord):
    """What the log and the metrics show of a request; `began` is a time.perf_counter()."""

    levelno = logging.INFO
    database_seconds = 0.0
    error_code: str | None = None
    refusal: str | None = None
    foreign_task = False
    tool: str | None = None  # of the MCP server

    def __init__(self, sent_id: str) -> None:  # LogRecord's takes 4 µs for values that no line has
        self.began = time.perf_counter()
        self.request_id = sent_id if REQUEST_ID.fullmatch(sent_id) else uuid4().hex

    def finish(self, status: int, environ: dict[str, Any]) -> None:
        request: Request = environ["werkzeug.request"]
        self.seconds, self.created = time.perf_counter() - self.began, time.time()
        self.method = request.method if request.method in METHODS else "OTHER"
        self.route = route_template(request.url_rule.rule) if request.url_rule else "other"
        identity: Identity | None = environ.get(IDENTITY)
        self.status, self.user_id, self.tool = status, identity and identity.user_id, environ.get(TOOL)
        if error := environ.get(ERROR):
            self.error_code, self.refusal, self.foreign_task = error.error_code, error.refusal, error.foreign_task
            self.levelno = logging.ERROR if status >= 500 else logging.WARNING if self.foreign_task else logging.INFO


@lru_cache
def route_template(rule: str) -> str:
    """Return a route as OpenAPI and the log write it: /api/tasks/{id}."""
    return re.sub(r"<(?:\w+:)?(?:task_)?(\w+)>", r"{\1}", rule)


CURRENT: ContextVar[RequestRecord | None] = ContextVar("record of the request", default=None)


class Recorder:
    """WSGI middleware: adds the common headers to each response, and queues a record for the log and the metrics.

    Views leave what it needs in the WSGI environment. Hooks of Flask and headers of Werkzeug would take 10 µs.
    """

    def __init__(self, app: TaskAPI) -> None:
        self._application: Callable[..., Iterable[bytes]] = app.wsgi_app
        self._extensions = app.extensions
        self._is_development = app.config["ENVIRONMENT"] == "development"

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        record = RequestRecord(environ.get("HTTP_X_REQUEST_ID", ""))

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            headers.append(("X-Request-ID", record.request_id))
            if not any(name == "Cache-Control" for name, _ in headers):
                headers.append(CACHE_CONTROL)
            headers += COMMON_HEADERS
            if self._is_development:
                headers.append(("Server-Timing", server_timing(record, environ)))
            record.finish(int(status[:3]), environ)
            self._extensions["log"].enqueue(record)
            return start_response(status, headers, *error)

        token = CURRENT.set(record)
        try:
            return self._application(environ, start)
        finally:
            CURRENT.reset(token)


def add_database_seconds(seconds: float) -> None:
    """Add the time of a statement to the record of the request, if there is one."""
    if record := CURRENT.get():
        record.database_seconds += seconds


def server_timing(record: RequestRecord, environ: dict[str, Any]) -> str:
    """Return the W3C Server-Timing header: browsers show these milliseconds in their developer tools."""
    total = time.perf_counter() - record.began
    seconds = {"auth": environ.get(AUTH_SECONDS, 0.0), "db": record.database_seconds, "total": total}
    return ", ".join(f"{name};dur={value * 1000:.2f}" for name, value in seconds.items())


def init_app(app: TaskAPI) -> None:
    with app.app_context():
        get_database().on_statement = add_database_seconds
    app.wsgi_app = Recorder(app)
