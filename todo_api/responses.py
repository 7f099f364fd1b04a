"""The response class, with the error that the log and the metrics are told."""

from typing import Any

import flask

ERROR = "todo_api.error"  # key of the WSGI environment: the error that the response is about
NO_BODY = (204, 304)


class Response(flask.Response):
    """A response that is sent as it is. Functions given to `call_on_close` are not called."""

    error: Any = None  # has error_code, refusal and foreign_task

    def get_wsgi_response(self, environ: dict[str, Any]) -> Any:
        """Return a whole body and its headers unchanged: looking for what could be corrected would take 5 µs."""
        environ[ERROR] = self.error
        has_body = environ["REQUEST_METHOD"] != "HEAD" and self.status_code not in NO_BODY
        if has_body and isinstance(self.response, list) and list(map(type, self.response)) == [bytes]:
            return self.response, self.status, list(self.headers)
        return super().get_wsgi_response(environ)


class JSONResponse(Response):
    """A response whose body is a JSON document, as text or as bytes of UTF-8."""

    def __init__(self, document: str | bytes, status: int = 200, headers: Any = None) -> None:
        super().__init__(document, status, headers, content_type="application/json")
