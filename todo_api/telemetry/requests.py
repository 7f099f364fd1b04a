"""What every request has: an id, the common headers of its response, and a record for the log and the metrics."""

import re
import time
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from functools import lru_cache
from logging import ERROR, INFO, WARNING, LogRecord
from typing import Any

from flask import Response, current_app, g, request
from uuid_utils import uuid4

from todo_api.database import get_database
from todo_api.errors import ApiError
from todo_api.extensions import TaskAPI

REQUEST_ID = re.compile("[A-Za-z0-9._-]{1,128}")
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
COMMON_HEADERS = (("Vary", "Authorization, Origin"), ("X-Content-Type-Options", "nosniff"))
NOT_STORED = ("Cache-Control", "private, no-cache")


class RequestRecord(LogRecord):
    """What the log and the metrics show of a request; `began` is a time.perf_counter()."""

    levelno = INFO
    database_seconds = 0.0
    error_code: str | None = None
    refusal: str | None = None
    foreign_task = False
    tool: str | None = None  # of the MCP server

    def __init__(self, sent_id: str) -> None:  # LogRecord's takes 4 µs for values that no line has
        self.began = time.perf_counter()
        self.request_id = sent_id if REQUEST_ID.fullmatch(sent_id) else uuid4().hex

    def finish(self, response: Response) -> None:
        rule = request.url_rule
        self.seconds, self.created = time.perf_counter() - self.began, time.time()
        self.method = request.method if request.method in METHODS else "OTHER"
        self.route = route_template(rule.rule) if rule else "other"
        self.status, self.user_id, self.tool = response.status_code, g.get("user_id"), g.get("tool")
        error: ApiError | None = getattr(response, "error", None)  # only error responses have one
        if error:
            self.error_code, self.refusal, self.foreign_task = error.error_code, error.refusal, error.foreign_task
            self.levelno = ERROR if self.status >= 500 else WARNING if self.foreign_task else INFO


@lru_cache
def route_template(rule: str) -> str:
    """Return a route as OpenAPI and the log write it: /api/tasks/{id}."""
    return re.sub(r"<(?:\w+:)?(?:task_)?(\w+)>", r"{\1}", rule)


CURRENT: ContextVar[RequestRecord | None] = ContextVar("record of the request", default=None)


class Recorder:
    """WSGI middleware: records each request, and adds the common headers to its response.

    Here a header is an item of a list; in a response of Werkzeug it takes 1 µs.
    """

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        record = RequestRecord(environ.get("HTTP_X_REQUEST_ID", ""))

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            headers.append(("X-Request-ID", record.request_id))
            if not any(name == "Cache-Control" for name, _ in headers):
                headers.append(NOT_STORED)
            headers += COMMON_HEADERS
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


def finish(response: Response) -> Response:
    """Queue the record for the log and the metrics."""
    if record := CURRENT.get():
        record.finish(response)
        current_app.extensions["log"].enqueue(record)
    return response


def add_server_timing(response: Response) -> Response:
    """Add the W3C Server-Timing header: browsers show these milliseconds in their developer tools."""
    if record := CURRENT.get():
        total = time.perf_counter() - record.began
        seconds = {"auth": g.get("auth_seconds", 0.0), "db": record.database_seconds, "total": total}
        parts = (f"{name};dur={value * 1000:.2f}" for name, value in seconds.items())
        response.headers["Server-Timing"] = ", ".join(parts)
    return response


def init_app(app: TaskAPI) -> None:
    with app.app_context():
        get_database().on_statement = add_database_seconds
    app.wsgi_app = Recorder(app.wsgi_app)
    app.after_request(finish)
    if app.config["ENVIRONMENT"] == "development":
        app.after_request(add_server_timing)
