"""The request id and the log: what ties an answer to the lines written about it."""

import logging
import re

from flask import Flask, Response, g, has_request_context, request
from uuid_utils import uuid4

CLIENT_ID = re.compile("[A-Za-z0-9._-]{1,128}")
HEADERS = {
    "Cache-Control": "private, no-cache",
    "Vary": "Authorization, Origin",
    "X-Content-Type-Options": "nosniff",
}


def request_id() -> str:
    """Return the client's X-Request-ID when it is well formed, else one made for this request."""
    if "request_id" not in g:
        sent = request.headers.get("X-Request-ID", "")
        g.request_id = sent if CLIENT_ID.fullmatch(sent) else uuid4().hex
    return str(g.request_id)


def add_headers(response: Response) -> Response:
    response.headers["X-Request-ID"] = request_id()
    response.headers.extend(HEADERS)
    return response


class RequestIdFilter(logging.Filter):
    """Gives each record the id of the request it belongs to."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id() if has_request_context() else "-"
        return True


def init_app(app: Flask) -> None:
    """Send the log to standard error and put the common headers on every answer."""
    handler = logging.StreamHandler()
    handler.addFilter(RequestIdFilter())
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s [%(request_id)s] %(name)s: %(message)s"))
    app.logger.handlers = [handler]
    app.logger.propagate = False
    app.logger.setLevel(app.config["LOG_LEVEL"])
    app.after_request(add_headers)
