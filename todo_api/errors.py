"""The exceptions that end a request, and the handlers that turn any exception into an error response."""

import logging
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, current_app, json, request
from marshmallow import ValidationError
from werkzeug.exceptions import HTTPException

from todo_api.responses import JSONResponse

LONGEST_DETAIL = 300  # characters of the `detail` of VALIDATION_ERROR
LONGEST_NAME = 50  # characters of a client's name for a field or parameter

logger = logging.getLogger(__name__)


class ApiError(Exception):
    """Ends a request with an error response; a subclass sets its status, its code and a sentence for people."""

    status_code, error_code = 500, "INTERNAL_ERROR"
    detail = "Something went wrong on the server; look for the request id in the log."
    headers: Mapping[str, str] = {}
    members: Mapping[str, Any] = {}  # further members of the body
    log_message: str | None = None  # logged as an error, never sent
    refusal: str | None = None  # why a token was refused: a label of the metrics
    foreign_task = False  # whether it was an attempt on another user's task

    def __init__(self, detail: str | None = None) -> None:
        self.detail = detail or self.detail
        super().__init__(self.detail)


class BadRequest(ApiError):
    status_code, error_code, detail = 400, "BAD_REQUEST", "The request cannot be read."


class InvalidInput(ApiError):
    status_code, error_code, detail = 400, "VALIDATION_ERROR", "Some fields, parameters or headers are not valid."

    def __init__(self, errors: Mapping[str, list[str]]) -> None:
        super().__init__(one_line(errors))
        self.members = {"errors": errors}


class NotFound(ApiError):
    status_code, error_code, detail = 404, "NOT_FOUND", "There is no such route."


class MethodNotAllowed(ApiError):
    status_code, error_code, detail = 405, "METHOD_NOT_ALLOWED", "This route does not support this method."


class PayloadTooLarge(ApiError):
    status_code, error_code, detail = 413, "PAYLOAD_TOO_LARGE", "The body is larger than 64 KiB."


class UnsupportedMediaType(ApiError):
    status_code, error_code, detail = 415, "UNSUPPORTED_MEDIA_TYPE", "Send the body as application/json."


class Unavailable(ApiError):
    """The base of the errors after which a client may soon try again."""

    status_code, error_code, detail = 503, "SERVICE_UNAVAILABLE", "The service is busy; try again soon."
    headers = {"Retry-After": "2"}


class ErrorResponse(JSONResponse):
    def __init__(self, error: ApiError) -> None:
        body = {"detail": error.detail, "error_code": error.error_code, "status_code": error.status_code}
        super().__init__(json.dumps(body | dict(error.members)), error.status_code, error.headers)
        self.error = error


def error_types(base: type[ApiError] = ApiError) -> Iterator[type[ApiError]]:
    """Yield `base` and all its subclasses that have been imported."""
    yield base
    for subclass in base.__subclasses__():
        yield from error_types(subclass)


def one_line(errors: Mapping[str, list[str]]) -> str:
    """Return the messages for people, each after the name of its field, parameter or header."""
    text = "; ".join(f"{printable(name)}: {' '.join(messages)}" for name, messages in sorted(errors.items()))
    return text if len(text) <= LONGEST_DETAIL else f"{text[: LONGEST_DETAIL - 3]}..."


def printable(name: str) -> str:
    """Return a name that a client sent, cut, with escapes for what cannot be printed."""
    return repr(name[:LONGEST_NAME])[1:-1]


def api_error(error: ApiError) -> Response:
    log_error(error)
    return ErrorResponse(error)


def log_error(error: ApiError) -> None:
    """Log what an error keeps from the client."""
    if error.log_message:
        logger.error("%s: %s", error.error_code, error.log_message)


def http_error(error: HTTPException) -> Response:
    """Convert an error of Flask or Werkzeug; 405 keeps its Allow header."""
    status = HTTPStatus(error.code or 500)
    converted = {404: NotFound, 405: MethodNotAllowed, 413: PayloadTooLarge}.get(status, ApiError)()
    if status == 404 and request.path.endswith("/") and is_route(request.path.rstrip("/")):
        converted.detail = "There is no such route; remove the slash at the end of the path."
    if type(converted) is ApiError:
        converted.status_code, converted.error_code = status, status.name
        converted.detail = status.description or status.phrase
    converted.headers = {name: value for name, value in error.get_headers() if name == "Allow"}
    return ErrorResponse(converted)


def is_route(path: str) -> bool:
    """Return whether there is a route for the path, whatever its methods."""
    return bool(current_app.url_map.bind("").allowed_methods(path))


def unexpected_error(error: Exception) -> Response:
    logger.error("unexpected error in %s %s", request.method, request.url_rule, exc_info=error)
    return ErrorResponse(ApiError())


def init_app(app: Flask) -> None:
    """Register the error handlers."""
    app.register_error_handler(ApiError, api_error)
    app.register_error_handler(ValidationError, lambda error: ErrorResponse(InvalidInput(error.messages)))
    app.register_error_handler(HTTPException, http_error)
    app.register_error_handler(Exception, unexpected_error)
