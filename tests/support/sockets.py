"""Send raw bytes to a server, as no HTTP library would, and read what comes back."""

import http.client
import io
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tests.support.tokens import token

TIMEOUT = 15  # seconds


class _Stream(io.BytesIO):
    """Received bytes as a socket from which `http.client` reads several responses."""

    def makefile(self, *_: object) -> "_Stream":
        return self

    def close(self) -> None:
        pass


@contextmanager
def many_descriptors() -> Iterator[int]:
    """Raise the limit of open files to the maximum, and yield it."""
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        yield most
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, most))


def exchange(port: int, sent: bytes, *, half_close: bool = False) -> bytes:
    """Return all bytes until the server closes the connection. Raises TimeoutError if it does not.

    With `half_close`, the client closes its sending side first.
    """
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as connection:
        with suppress(ConnectionError):  # the server may close early; its response can still be read
            connection.sendall(sent)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
        with suppress(ConnectionError):
            while part := connection.recv(65536):
                received += part
    return received


def statuses(received: bytes) -> list[int]:
    """Return the status of each response in these bytes. Raises HTTPException for anything else."""
    stream: Any = _Stream(received)  # HTTPResponse wants a socket, and only calls its makefile()
    found = []
    while stream.tell() < len(received):
        response = http.client.HTTPResponse(stream)
        response.begin()
        response.read()
        found.append(response.status)
    return found


def request(user: str, method: str, path: str, body: bytes = b"", more: bytes = b"") -> bytes:
    """Return a complete request of a user; `more` holds further header lines."""
    lines = (
        f"{method} {path} HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {token(user, iss='i', aud='a')}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join(lines).encode() + b"\r\n" + more + b"\r\n" + body
