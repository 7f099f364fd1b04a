"""One client's connection: it reads what has arrived, answers complete requests, and ends without losing a response."""

import json
import socket
import struct
import time
from ssl import SSLSocket
from typing import Any, Protocol
from uuid import uuid4

from gunicorn.sock import ssl_wrap_socket

from todo_api.serving.arrival import Incomplete, Parser
from todo_api.serving.exchange import Application, respond

# Times are in seconds.
FIRST_REQUEST_TIMEOUT = 5
LAST_REQUEST_TIMEOUT = 2  # while the worker stops
REQUEST_TIMEOUT = 20  # from the first bytes of a request until it is complete
RESPONSE_TIMEOUT = 10  # how long a client may read nothing of its response
LINGER = 2  # how long a client may take to hang up after "Connection: close"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
TIMED_OUT = json.dumps(
    {"detail": "The request took too long to arrive.", "error_code": "REQUEST_TIMEOUT", "status_code": 408}
)
TIMED_OUT_HEAD = (
    "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Type: application/json\r\n"
    "Cache-Control: private, no-cache\r\nVary: Authorization, Origin\r\nX-Content-Type-Options: nosniff\r\n"
    f"Content-Length: {len(TIMED_OUT)}\r\n"
)


class Server(Protocol):
    """What a connection needs of its worker."""

    cfg: Any
    wsgi: Application

    def may_keep_alive(self) -> bool:
        """Count a request. Return whether its connection may wait for another."""

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer a malformed request, or one on which the application failed, and log it."""


class Connection:
    """A connection and the requests on it. `until` is when it ends unless more arrives, a time.monotonic().

    With TLS, a client that sends slowly holds a thread: nginx is better at that.
    """

    def __init__(self, server: Server, sock: socket.socket, address: Any) -> None:
        self.until = time.monotonic() + max(server.cfg.keepalive, FIRST_REQUEST_TIMEOUT)
        self._deadline = 0.0  # of the request that has begun to arrive, or 0
        self._lingers = False  # the client has all responses, and should hang up
        self._server, self._sock, self._address = server, sock, address
        self._parser = Parser(server.cfg, address)
        self._flags = 0 if server.cfg.is_ssl else socket.MSG_DONTWAIT  # Python's TLS takes no flags
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", RESPONSE_TIMEOUT, 0))

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.close()

    def hurry(self) -> None:
        """Wait no longer than the end of a worker takes, unless a request has begun to arrive."""
        if not self._deadline:
            self.until = min(self.until, time.monotonic() + LAST_REQUEST_TIMEOUT)

    def proceed(self) -> bool:
        """Read what has arrived, and answer it. Return whether to wait for more or for the client to hang up."""
        if self._server.cfg.is_ssl and not isinstance(self._sock, SSLSocket):
            self._sock = ssl_wrap_socket(self._sock, self._server.cfg)
        try:
            data = self._sock.recv(65536, self._flags)
        except BlockingIOError:  # what was readable may be gone (epoll(7), select(2))
            return True
        if self._lingers:
            return bool(data)
        self._parser.received.add(data)
        self.until = time.monotonic() + self._answer_all()
        return True

    def _answer_all(self) -> float:
        """Answer all requests that have arrived. Return how many seconds to wait for more or for the end."""
        try:
            while self._answer():
                self._deadline = 0.0
                if not self._parser.received.size():
                    return float(self._server.cfg.keepalive)
        except Incomplete:
            return self._seconds_for_the_rest()
        return self._linger()

    def _answer(self) -> bool:
        """Answer the next request that has arrived. Return whether another can follow. Raises Incomplete."""
        request = None
        try:
            if not (request := self._parser.next_request()):
                return False
            keep_alive = self._server.may_keep_alive() and not request.should_close()
            parts = respond(self._server.wsgi, request, self._address, keep_alive=keep_alive)
        except Exception as error:
            self._server.handle_error(request, self._sock, self._address, error)
            return False
        for part in parts:
            self._sock.sendall(part)
        return keep_alive and self._parser.finish()

    def _seconds_for_the_rest(self) -> float:
        """Let a client go on that waits for that. Return how many seconds are left for the rest of its request."""
        now = time.monotonic()
        self._deadline = self._deadline or now + REQUEST_TIMEOUT
        if self._parser.wants_continue:
            self._parser.wants_continue = False
            self._sock.sendall(CONTINUE)
        return self._deadline - now

    def _linger(self) -> float:
        """End the responses. Return how many seconds to wait for the client to hang up.

        Unread data would reset a connection that is closed at once, and lose the response (RFC 9112, section 9.6).
        """
        self._sock.shutdown(socket.SHUT_WR)
        self._deadline = 0.0
        self._lingers = True
        return LINGER

    def time_out(self) -> bool:
        """End a connection that has waited too long, with 408 if a request had begun to arrive.

        Return whether to wait for the client to hang up, or for more if it has sent something in this moment.
        """
        if self.until > time.monotonic():
            return True
        if not self._deadline:
            return False
        self._sock.setblocking(False)
        self._sock.send(f"{TIMED_OUT_HEAD}X-Request-ID: {uuid4().hex}\r\n\r\n{TIMED_OUT}".encode())
        self.until = time.monotonic() + self._linger()
        return True
