"""A request and its response between gunicorn's parser and the application, as PEP 3333 describes.

This replaces gunicorn/http/wsgi.py, which sends head and body apart. A response is sent only once it is whole.
"""

import re
import sys
import time
from collections.abc import Callable, Iterable
from email.utils import formatdate
from functools import lru_cache
from typing import Any

from gunicorn.util import unquote_to_wsgi_str

MOST_COPIED = 64 * 1024  # bytes of a body that is joined to its head; a longer one is sent by itself
ALWAYS = {
    "SCRIPT_NAME": "",
    "SERVER_NAME": "invalid",  # for HTTP/1.0 without a Host header
    "SERVER_PORT": "80",
    "wsgi.version": (1, 0),
    "wsgi.errors": sys.stderr,
    "wsgi.multithread": True,
    "wsgi.multiprocess": True,
    "wsgi.run_once": False,
    "wsgi.input_terminated": True,  # for Werkzeug: a body ends by itself, without a Content-Length too
}
WITHOUT_PREFIX = {"CONTENT-TYPE": "CONTENT_TYPE", "CONTENT-LENGTH": "CONTENT_LENGTH"}  # headers that get no HTTP_
OF_THE_SERVER = {"connection", "date", "server", "transfer-encoding"}  # headers that an application cannot set
NO_BODY = ("1", "204", "304")  # how a status without one begins
STATUS = re.compile(r"[1-5]\d\d [ -~]*")
HEADERS = re.compile(r"(?:[!#-'*+\-.0-9A-Z^-z|~]+: [\t -~\x80-\xff]*\r\n)*")  # RFC 9110, section 5

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


def respond(application: Application, request: Any, client: Any, *, keep_alive: bool) -> list[bytes]:
    """Let the application answer a request that gunicorn has parsed. Return what to send, in one part or two.

    `client` is the address that accept() gave. Raises ValueError if the response is not valid.
    """
    started: list[Any] = []

    def start_response(*status_and_headers: Any) -> None:
        started[:] = status_and_headers

    body = application(environ(request, client), start_response)
    try:
        content = b"".join(body)
    finally:
        if close := getattr(body, "close", None):
            close()
    status, headers = started[:2]
    has_body = request.method != "HEAD" and not status.startswith(NO_BODY)
    if not has_body:
        content = b""
    sent = head(request, status, framed(headers, len(content) if has_body else None), keep_alive=keep_alive)
    return [sent + content] if len(content) <= MOST_COPIED else [sent, content]


def environ(request: Any, client: Any) -> dict[str, Any]:
    """Return the WSGI environment of a request."""
    found = {
        **ALWAYS,
        "REQUEST_METHOD": request.method,
        "PATH_INFO": unquote_to_wsgi_str(request.path),
        "QUERY_STRING": request.query,
        "SERVER_PROTOCOL": protocol(request),
        "REMOTE_ADDR": client[0] if isinstance(client, tuple) else "",  # a Unix socket has none
        "wsgi.url_scheme": request.scheme,
        "wsgi.input": request.body,
    }
    for name, value in request.headers:
        key = WITHOUT_PREFIX.get(name) or f"HTTP_{name.replace('-', '_')}"
        found[key] = f"{found[key]},{value}" if key in found else value
    return found


def framed(headers: list[tuple[str, str]], size: int | None) -> str:
    """Return the application's headers, with the size of the body unless there is none. Raises ValueError."""
    lines, length = [], None
    for name, value in headers:
        lower = name.lower()
        if lower == "content-length":
            length = value
        if lower not in OF_THE_SERVER:
            lines.append(f"{name}: {value}\r\n")
    if size is not None and length is None:
        lines.append(f"Content-Length: {size}\r\n")
    elif size is not None and length != str(size):
        raise ValueError("the body of the response has another length than its Content-Length")
    text = "".join(lines)
    if not HEADERS.fullmatch(text) or text.count("\n") != len(lines):
        raise ValueError("a header of the response is not valid")
    return text


def head(request: Any, status: str, headers: str, *, keep_alive: bool) -> bytes:
    """Return the status line, the headers and the empty line of a response. Raises ValueError."""
    if not STATUS.fullmatch(status):
        raise ValueError("the status of the response is not valid")
    connection, date = "keep-alive" if keep_alive else "close", http_date(int(time.time()))
    own = f"Server: gunicorn\r\nDate: {date}\r\nConnection: {connection}\r\n"
    return f"{protocol(request)} {status}\r\n{own}{headers}\r\n".encode("latin-1")


def protocol(request: Any) -> str:
    major, minor = request.version
    return f"HTTP/{major}.{minor}"


@lru_cache(maxsize=1)
def http_date(second: int) -> str:
    """Return a Unix time as HTTP writes it (RFC 9110, section 5.6.7)."""
    return formatdate(second, usegmt=True)
