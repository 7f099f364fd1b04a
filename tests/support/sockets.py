"""Bytes to a server as no library would send them, and what comes back."""

import http.client
import io
import socket
from contextlib import suppress

from tests.support.tokens import token

SECONDS = 15  # until a server that neither answers nor closes hangs


class _Stream(io.BytesIO):
    """What was received, as a socket that several answers are read from."""

    def makefile(self, *_: object) -> "_Stream":
        return self

    def close(self) -> None:
        pass


def exchange(port: int, sent: bytes, *, hang_up: bool = False) -> bytes:
    """Return all that comes until the server closes; TimeoutError when it does not.

    With `hang_up` the client says first that no more will come.
    """
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as connection:
        with suppress(ConnectionError):  # closed before it has read all: what it answered can still be there
            connection.sendall(sent)
            if hang_up:
                connection.shutdown(socket.SHUT_WR)
        with suppress(ConnectionError):
            while part := connection.recv(65536):
                received += part
    return received


def statuses(received: bytes) -> list[int]:
    """Return the status of each answer in these bytes; those that are no answer raise."""
    stream, found = _Stream(received), []
    while stream.tell() < len(received):
        response = http.client.HTTPResponse(stream)  # type: ignore[arg-type]  # of a socket it calls makefile alone
        response.begin()
        response.read()
        found.append(response.status)
    return found


def request(user: str, method: str, path: str, body: bytes = b"", more: bytes = b"") -> bytes:
    """A whole request of a user; `more` is lines of its head."""
    lines = (
        f"{method} {path} HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {token(user, iss='i', aud='a')}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join(lines).encode() + b"\r\n" + more + b"\r\n" + body
