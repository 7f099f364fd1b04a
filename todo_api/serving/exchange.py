"""A request and its response between gunicorn's parser and the application, as PEP 3333 describes.

A response leaves as a whole. gunicorn sends head and body apart, checks each header twice and looks up settings.
"""

import sys
import time
from collections.abc import Callable, Iterable
from email.utils import formatdate
from functools import lru_cache
from socket import socket
from typing import Any

from gunicorn.util import unquote_to_wsgi_str

MOST_COPIED = 64 * 1024  # bytes of a body that is joined to its head; a longer one is sent by itself
ALWAYS = {
    "SCRIPT_NAME": "",
    "SERVER_NAME": "localhost",  # for HTTP/1.0 without a Host header
    "SERVER_PORT": "80",
    "wsgi.version": (1, 0),
    "wsgi.errors": sys.stderr,
    "wsgi.multithread": True,
    "wsgi.multiprocess": True,
    "wsgi.run_once": False,
    "wsgi.input_terminated": True,  # for Werkzeug: a body ends by itself, without a Content-Length too
}
NAMES = {"CONTENT-TYPE": "CONTENT_TYPE", "CONTENT-LENGTH": "CONTENT_LENGTH"}  # of headers without the prefix HTTP_

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


def respond(application: Application, request: Any, sock: socket, client: Any, *, keep_alive: bool) -> None:
    """Let the application answer a request that gunicorn has parsed, and send the response."""
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
    sent = head(request, status, with_length(headers, status, content), keep_alive=keep_alive)
    if len(content) <= MOST_COPIED:
        sock.sendall(sent + content)
    else:
        sock.sendall(sent)
        sock.sendall(content)


def environ(request: Any, client: Any) -> dict[str, Any]:
    """Return the WSGI environment of a request; `client` is the address that accept() gave."""
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
        key = NAMES.get(name) or f"HTTP_{name.replace('-', '_')}"
        found[key] = f"{found[key]},{value}" if key in found else value
    return found


def head(request: Any, status: str, headers: list[tuple[str, str]], *, keep_alive: bool) -> bytes:
    """Return the head of a response. Raises ValueError if a header would begin a line of its own."""
    lines = [
        f"{protocol(request)} {status}",
        "Server: gunicorn",
        f"Date: {http_date(int(time.time()))}",
        f"Connection: {'keep-alive' if keep_alive else 'close'}",
        *[f"{name}: {value}" for name, value in headers],
        "\r\n",
    ]
    text = "\r\n".join(lines)
    if text.count("\n") != len(lines) or text.count("\r") != len(lines):
        raise ValueError("a header of the response holds a line break")
    return text.encode("latin-1")


def with_length(headers: list[tuple[str, str]], status: str, content: bytes) -> list[tuple[str, str]]:
    """Return the headers with a Content-Length, unless the application has set it or the status has no body."""
    if status[:3] in ("204", "304") or any(name.lower() == "content-length" for name, _ in headers):
        return headers
    return [*headers, ("Content-Length", str(len(content)))]


def protocol(request: Any) -> str:
    major, minor = request.version
    return f"HTTP/{major}.{minor}"


@lru_cache(maxsize=1)
def http_date(second: int) -> str:
    """Return a Unix time as HTTP writes it (RFC 9110, section 5.6.7)."""
    return formatdate(second, usegmt=True)
