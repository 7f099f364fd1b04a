"""What ties an answer to the lines and figures about it: its request id, the log, the metrics, Server-Timing."""

import logging
import re
import time
from contextlib import suppress
from functools import lru_cache
from hashlib import blake2b, sha256
from typing import TextIO

from flask import Flask, Response, current_app, g, has_request_context, request
from uuid_utils import uuid4

from todo_api import metrics
from todo_api.logs import formatter, timestamp

CLIENT_ID = re.compile("[A-Za-z0-9._-]{1,128}")
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
HEADERS = {
    "Vary": "Authorization, Origin",
    "X-Content-Type-Options": "nosniff",
}


def request_id() -> str:
    """Return the client's X-Request-ID when it is well formed, else one made for this request."""
    if "request_id" not in g:
        sent = request.headers.get("X-Request-ID", "")
        g.request_id = sent if CLIENT_ID.fullmatch(sent) else uuid4().hex
    return str(g.request_id)


def spent(name: str, began: float) -> None:
    """Add the seconds since `began`, a time.perf_counter(), to what the request has spent on `name`."""
    setattr(g, name, g.get(name, 0.0) + time.perf_counter() - began)


def note_foreign_task() -> None:
    """Count an attempt on another user's task, and mark the line of the request: the alarm of isolation."""
    metrics.FOREIGN_TASKS.inc()
    g.foreign_task = True


def begin() -> None:
    g.began = time.perf_counter()


def finish(response: Response) -> Response:
    """Put the common headers on an answer, count it, and write its line."""
    response.headers["X-Request-ID"] = request_id()
    response.headers.setdefault("Cache-Control", "private, no-cache")
    response.headers.extend(HEADERS)
    seconds = time.perf_counter() - g.began
    route = template(request.url_rule.rule) if request.url_rule else "other"
    method = request.method if request.method in METHODS else "OTHER"
    metrics.REQUESTS.labels(route, method, response.status_code).observe(seconds)
    current_app.extensions["request_log"].write(route, method, response.status_code, seconds)
    return response


@lru_cache
def template(rule: str) -> str:
    """Return the route as OpenAPI writes it: /api/tasks/{task_id}."""
    return rule.replace("<", "{").replace(">", "}")


def add_server_timing(response: Response) -> Response:
    """Tell the browser's own tools where the time went, in milliseconds (W3C Server Timing)."""
    seconds = {"auth": g.get("auth", 0.0), "db": g.get("database", 0.0), "total": time.perf_counter() - g.began}
    response.headers["Server-Timing"] = ", ".join(f"{name};dur={value * 1000:.2f}" for name, value in seconds.items())
    return response


class RequestIdFilter(logging.Filter):
    """Gives each record the id of the request it belongs to."""

    def filter(self, record: logging.LogRecord) -> bool:
        if has_request_context():
            record.request_id = request_id()
        return True


class RequestLog:
    """Writes a line for each request; users appear as a keyed hash.

    It does not go through `logging`, whose records cost some 20 us each; what it writes needs no escape.
    """

    def __init__(self, handler: logging.StreamHandler[TextIO], logger: logging.Logger, key: str, as_json: bool) -> None:
        self._handler, self._logger = handler, logger
        self._key = sha256(key.encode()).digest()
        self._format = self._json if as_json else self._text

    def write(self, route: str, method: str, status: int, seconds: float) -> None:
        level = logging.ERROR if status >= 500 else logging.WARNING if "foreign_task" in g else logging.INFO
        if self._logger.isEnabledFor(level):
            line = self._format(logging.getLevelName(level), route, method, status, seconds * 1000)
            with suppress(OSError):  # a full disk under the log is no reason to refuse a task
                self._handler.stream.write(line)

    def user(self, user_id: str) -> str:
        """Return what stands for a user in the log."""
        return blake2b(user_id.encode(), key=self._key, digest_size=8).hexdigest()

    def _json(self, level: str, route: str, method: str, status: int, duration: float) -> str:
        code = f'"{g.error_code}"' if "error_code" in g else "null"
        user = f'"{self.user(g.user_id)}"' if "user_id" in g else "null"
        return (
            f'{{"time":"{timestamp(time.time())}","level":"{level}","logger":"todo_api.request",'
            f'"request_id":"{request_id()}","method":"{method}","route":"{route}","status":{status},"error_code":{code},'
            f'"duration_ms":{duration:.3f},"database_ms":{g.get("database", 0.0) * 1000:.3f},"user":{user},'
            f'"foreign_task":{"true" if "foreign_task" in g else "false"}}}\n'
        )

    def _text(self, level: str, route: str, method: str, status: int, duration: float) -> str:
        return (
            f"{timestamp(time.time())} {level} [{request_id()}] {method} {route} {status} {g.get('error_code', '')}"
            f" {duration:.1f} ms, database {g.get('database', 0.0) * 1000:.1f} ms\n"
        )


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
    app.extensions["request_log"] = RequestLog(handler, app.logger, app.config["LOG_HASH_KEY"], not development)
    app.before_request(begin)
    app.after_request(finish)
    if development:
        app.after_request(add_server_timing)
