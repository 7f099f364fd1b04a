"""What ties an answer to the lines and figures about it: its request id, the log, the metrics, Server-Timing."""

import logging
import re
import time
from functools import lru_cache

from flask import Flask, Response, current_app, g, has_request_context, request
from uuid_utils import uuid4

from todo_api.errors import ErrorResponse
from todo_api.log_format import formatter
from todo_api.telemetry.access_log import Reporter, Trace

CLIENT_ID = re.compile("[A-Za-z0-9._-]{1,128}")
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
COMMON = {
    "Vary": "Authorization, Origin",
    "X-Content-Type-Options": "nosniff",
}


def request_id() -> str:
    """Return the client's X-Request-ID when it is well formed, else one made for this request."""
    trace: Trace = g.trace
    if not trace.request_id:
        sent = request.headers.get("X-Request-ID", "")
        trace.request_id = sent if CLIENT_ID.fullmatch(sent) else uuid4().hex
    return trace.request_id


def begin() -> None:
    g.trace = Trace()  # all in one place: each look at `g` costs 1 us


def finish(response: Response) -> Response:
    """Put the common headers on an answer, and report it."""
    headers, trace, rule = response.headers, g.trace, request.url_rule
    headers["X-Request-ID"] = request_id()
    headers.setdefault("Cache-Control", "private, no-cache")
    headers.extend(COMMON)
    trace.seconds = time.perf_counter() - trace.began
    trace.ended = time.time()
    trace.method = request.method if request.method in METHODS else "OTHER"
    trace.route = template(rule.rule) if rule else "other"
    trace.status = response.status_code
    trace.user_id = g.get("user_id")
    if isinstance(response, ErrorResponse):
        trace.error_code, trace.is_foreign = response.error.error_code, response.error.foreign_task
        trace.refusal = response.error.refusal
    reporter: Reporter = current_app.extensions["reporter"]
    reporter.report(trace)
    return response


def add_database_time(seconds: float) -> None:
    """Add the seconds of a statement to those of the request; the shell has no request."""
    if trace := g.get("trace"):
        trace.database += seconds


@lru_cache
def template(rule: str) -> str:
    """Return the route as OpenAPI and the log write it: /api/tasks/{id}."""
    return rule.replace("<task_id>", "{id}")


def add_server_timing(response: Response) -> Response:
    """Tell the browser's own tools where the time went, in milliseconds (W3C Server Timing)."""
    trace: Trace = g.trace
    seconds = {"auth": g.get("auth_seconds", 0.0), "db": trace.database, "total": time.perf_counter() - trace.began}
    response.headers["Server-Timing"] = ", ".join(f"{name};dur={value * 1000:.2f}" for name, value in seconds.items())
    return response


class RequestIdFilter(logging.Filter):
    """Gives each record the id of the request it belongs to."""

    def filter(self, record: logging.LogRecord) -> bool:
        if has_request_context():
            record.request_id = request_id()
        return True


def is_not_of_a_request(record: logging.LogRecord) -> bool:
    """Tell the development server's lines about requests, which hold query strings, from its other ones."""
    return not str(record.msg).endswith('"%s" %s %s')


def init_app(app: Flask) -> None:
    """Send the log to standard error, and follow each request from its begin to its answer."""
    development = app.config["ENVIRONMENT"] == "development"
    handler = logging.StreamHandler()
    handler.addFilter(RequestIdFilter())
    handler.setFormatter(formatter(app.config["ENVIRONMENT"]))
    app.logger.handlers = [handler]
    app.logger.propagate = False
    app.logger.setLevel(app.config["LOG_LEVEL"])
    logging.basicConfig(handlers=[handler])  # what libraries say, from WARNING on
    logging.getLogger("werkzeug").addFilter(is_not_of_a_request)
    reporter = Reporter(handler, app.logger, app.config["LOG_HASH_KEY"], as_json=not development)
    app.extensions["reporter"] = reporter
    app.extensions["database"].on_statement = add_database_time
    app.before_request(begin)
    app.after_request(finish)
    if development:
        app.after_request(add_server_timing)
