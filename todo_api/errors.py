"""The one error body, and every handler that makes it."""

from http import HTTPStatus
from typing import Any

from flask import Flask, Response, current_app, g, json, request
from marshmallow import ValidationError
from werkzeug.exceptions import HTTPException

from todo_api.database.execution import DatabaseUnavailable

RETRY_AFTER_SECONDS = 2

# error_code: status, detail for a person
ERRORS = {
    "BAD_REQUEST": (400, "The request cannot be read."),
    "MALFORMED_JSON": (400, "The body is not a JSON object."),
    "VALIDATION_ERROR": (400, "Some fields, parameters or headers are not valid."),
    "TOKEN_MISSING": (401, "A bearer token is required."),
    "TOKEN_EXPIRED": (401, "The token has expired."),
    "TOKEN_INVALID": (401, "The token is not valid."),
    "TASK_FORBIDDEN": (403, "This task belongs to another user."),
    "TASK_NOT_FOUND": (404, "There is no such task."),
    "NOT_FOUND": (404, "There is no such route."),
    "METHOD_NOT_ALLOWED": (405, "This route does not have that method."),
    "PRECONDITION_FAILED": (412, "The task has been changed since you read it."),
    "PAYLOAD_TOO_LARGE": (413, "The body is larger than 64 KiB."),
    "UNSUPPORTED_MEDIA_TYPE": (415, "The body must be sent as application/json."),
    "IDEMPOTENCY_KEY_REUSED": (422, "This Idempotency-Key was sent before with another body."),
    "TASK_LIMIT_REACHED": (422, "This user has as many tasks as a user may have."),
    "INTERNAL_ERROR": (500, "Something went wrong here; the request id finds it in the log."),
    "KEYS_UNAVAILABLE": (503, "The keys that verify tokens cannot be fetched now."),
    "DATABASE_UNAVAILABLE": (503, "The database cannot be reached now."),
    "NOT_READY": (503, "The service cannot answer requests now."),
}
BY_STATUS = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED", 413: "PAYLOAD_TOO_LARGE"}


class ApiError(Exception):
    """Ends a request with the error body of `code`, a key of ERRORS."""

    def __init__(self, code: str, detail: str | None = None) -> None:
        super().__init__(code)
        self.code, self.detail = code, detail


def error_response(code: str, detail: str | None = None, **more: Any) -> Response:
    """Return the error body of `code`; `more` adds members to it."""
    status, sentence = ERRORS[code]
    return _response(code, status, detail or sentence, **more)


def _response(code: str, status: int, detail: str, **more: Any) -> Response:
    g.trace.error_code = code
    body = json.dumps({"detail": detail, "error_code": code, "status_code": status, **more})
    response = Response(body, status, mimetype="application/json")
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer" if code == "TOKEN_MISSING" else 'Bearer error="invalid_token"'
    if status == 503:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def api_error(error: ApiError) -> Response:
    return error_response(error.code, error.detail)


def validation_error(error: ValidationError) -> Response:
    return error_response("VALIDATION_ERROR", errors=error.messages)


def http_error(error: HTTPException) -> Response:
    """Answer what Flask and Werkzeug refuse themselves, with the methods they allow."""
    status = HTTPStatus(error.code or 500)
    code = BY_STATUS.get(status)
    response = error_response(code) if code else _response(status.name, status, status.description or status.phrase)
    response.headers.extend((name, value) for name, value in error.get_headers() if name == "Allow")
    return response


def database_unavailable(error: DatabaseUnavailable) -> Response:
    current_app.logger.error("database unavailable: %s", error)
    return error_response("DATABASE_UNAVAILABLE")


def unexpected_error(error: Exception) -> Response:
    current_app.logger.error("unexpected error in %s %s", request.method, request.url_rule, exc_info=error)
    return error_response("INTERNAL_ERROR")


def init_app(app: Flask) -> None:
    """Let every answer of 400 and above have the one body."""
    app.register_error_handler(ApiError, api_error)
    app.register_error_handler(ValidationError, validation_error)
    app.register_error_handler(HTTPException, http_error)
    app.register_error_handler(DatabaseUnavailable, database_unavailable)
    app.register_error_handler(Exception, unexpected_error)
