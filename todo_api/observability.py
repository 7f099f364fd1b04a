"""What ties an answer to the lines and figures about it: its request id, the log, the metrics, Server-Timing."""

import logging
import re
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b, sha256
from typing import TextIO

from flask import Flask, Response, g, has_request_context, request
from uuid_utils import uuid4

from todo_api import metrics
from todo_api.logs import formatter, timestamp

CLIENT_ID = re.compile("[A-Za-z0-9._-]{1,128}")
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
HEADERS = {
    "Vary": "Authorization, Origin",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(slots=True)
class Trace:
    """What the log tells of a request, in one place: each look at `g` costs 1 us. Times are in seconds."""

    began: float = field(default_factory=time.perf_counter)
    seconds: float = 0.0
    auth: float = 0.0
    database: float = 0.0
    request_id: str = ""
    method: str = ""
    route: str = ""
    status: int = 0
    error_code: str | None = None
    is_foreign: bool = False


def request_id() -> str:
    """Return the client's X-Request-ID when it is well formed, else one made for this request."""
    trace: Trace = g.trace
    if not trace.request_id:
        sent = request.headers.get("X-Request-ID", "")
        trace.request_id = sent if CLIENT_ID.fullmatch(sent) else uuid4().hex
    return trace.request_id


def begin() -> None:
    g.trace = Trace()


def add_database_time(began: float) -> None:
    """Add the seconds since `began`, a time.perf_counter(), to those of the request; the shell has no request."""
    if trace := g.get("trace"):
        trace.database += time.perf_counter() - began


def note_foreign_task() -> None:
    """Count an attempt on another user's task, and mark the line of the request: the alarm of isolation."""
    metrics.FOREIGN_TASKS.inc()
    if trace := g.get("trace"):
        trace.is_foreign = True


@lru_cache
def template(rule: str) -> str:
    """Return the route as OpenAPI and the log write it: /api/tasks/{id}."""
    return rule.replace("<task_id>", "{id}")


def add_server_timing(response: Response) -> Response:
    """Tell the browser's own tools where the time went, in milliseconds (W3C Server Timing)."""
    trace: Trace = g.trace
    seconds = {"auth": trace.auth, "db": trace.database, "total": time.perf_counter() - trace.began}
    response.headers["Server-Timing"] = ", ".join(f"{name};dur={value * 1000:.2f}" for name, value in seconds.items())
    return response


class RequestIdFilter(logging.Filter):
    """Gives each record the id of the request it belongs to."""

    def filter(self, record: logging.LogRecord) -> bool:
        if has_request_context():
            record.request_id = request_id()
        return True


class RequestLog:
    """Writes a line for each request and counts it; users appear as a keyed hash.

    It does not go through `logging`, whose records cost some 20 us each; what it writes needs no escape.
    """

    def __init__(self, handler: logging.StreamHandler[TextIO], logger: logging.Logger, key: str, as_json: bool) -> None:
        self._handler, self._logger = handler, logger
        self._key = sha256(key.encode()).digest()
        self._format = self._json if as_json else self._text

    def finish(self, response: Response) -> Response:
        """Put the common headers on an answer, count it and write its line."""
        headers, trace, rule = response.headers, g.trace, request.url_rule
        headers["X-Request-ID"] = request_id()
        headers.setdefault("Cache-Control", "private, no-cache")
        headers.extend(HEADERS)
        trace.seconds = time.perf_counter() - trace.began
        trace.method = request.method if request.method in METHODS else "OTHER"
        trace.route = template(rule.rule) if rule else "other"
        trace.status = response.status_code
        metrics.timer(trace.route, trace.method, trace.status).observe(trace.seconds)
        self._write(trace)
        return response

    def _write(self, trace: Trace) -> None:
        level = logging.ERROR if trace.status >= 500 else logging.WARNING if trace.is_foreign else logging.INFO
        if self._logger.isEnabledFor(level):
            line = self._format(logging.getLevelName(level), trace)
            with suppress(OSError):  # a full disk under the log is no reason to refuse a task
                self._handler.stream.write(line)

    def user(self, user_id: str) -> str:
        """Return what stands for a user in the log."""
        return blake2b(user_id.encode(), key=self._key, digest_size=8).hexdigest()

    def _json(self, level: str, trace: Trace) -> str:
        user_id = g.get("user_id")
        return (
            f'{{"time":"{timestamp(time.time())}","level":"{level}","logger":"todo_api.request",'
            f'"request_id":"{trace.request_id}","method":"{trace.method}","route":"{trace.route}",'
            f'"status":{trace.status},"error_code":{quoted(trace.error_code)},"duration_ms":{trace.seconds * 1000:.3f},'
            f'"database_ms":{trace.database * 1000:.3f},"user":{quoted(user_id and self.user(user_id))},'
            f'"foreign_task":{"true" if trace.is_foreign else "false"}}}\n'
        )

    def _text(self, level: str, trace: Trace) -> str:
        return (
            f"{timestamp(time.time())} {level} [{trace.request_id}] {trace.method} {trace.route} {trace.status} "
            f"{trace.error_code or ''} {trace.seconds * 1000:.1f} ms, database {trace.database * 1000:.1f} ms\n"
        )


def quoted(text: str | None) -> str:
    return f'"{text}"' if text else "null"


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
    app.before_request(begin)
    app.after_request(RequestLog(handler, app.logger, app.config["LOG_HASH_KEY"], as_json=not development).finish)
    if development:
        app.after_request(add_server_timing)
