"""A gunicorn worker whose threads wait for requests themselves.

In gunicorn's threaded worker, one thread waits for requests and hands them over through futures and a pipe. Here the
main thread accepts clients, and any idle thread takes the next readable connection from one epoll set. It reads what
has arrived, and only a complete request goes to the application, so no client can hold a thread by sending slowly. This
relies on gunicorn's internals as of 27.0.1.
"""

import ctypes
import json
import os
import resource
import select
import socket
import struct
import threading
import time
from contextlib import suppress
from typing import Any
from uuid import uuid4

from gunicorn.http.errors import NoMoreData, ParseException
from gunicorn.workers.base import Worker
from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER, TConn

from todo_api.serving.arrival import Incomplete, Parser
from todo_api.serving.exchange import respond

OWN_DESCRIPTORS = 256  # for the database, files and everything else except clients
# Times are in seconds.
FIRST_REQUEST_TIMEOUT = 5
REQUEST_TIMEOUT = 20  # from the first bytes of a request until it is complete
RESPONSE_TIMEOUT = 10  # how long a client may read nothing of its response
LINGER = 2  # how long a client may take to hang up after "Connection: close"
TICK = 1.0
SHORT_TICK = 0.05  # while the worker is full or stops, and waits for connections to end
ERROR_PAUSE = 0.1
# After accepting a client, a worker leaves the next one to another. If one takes a whole burst, it is half as fast.
ACCEPT_PAUSE = 0.0003
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of malloc.h
# Of 50 lists of 9 MB at a time, two workers take 230 MiB in place of 230 to 270.
HEAP_OPTIONS = (M_ARENA_MAX, 1), (M_MMAP_THRESHOLD, 1 << 20), (M_TRIM_THRESHOLD, 1 << 20)  # bytes
ONE_THREAD = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLONESHOT
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
TIMED_OUT = json.dumps(
    {"detail": "The request took too long to arrive.", "error_code": "REQUEST_TIMEOUT", "status_code": 408}
)
TIMED_OUT_HEAD = (
    "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Type: application/json\r\n"
    "Cache-Control: private, no-cache\r\nVary: Authorization, Origin\r\nX-Content-Type-Options: nosniff\r\n"
    f"Content-Length: {len(TIMED_OUT)}\r\n"
)


class Client(TConn):
    """A connection with a parser that reads what has arrived, and not the socket."""

    deadline = 0.0  # of the request that has begun to arrive, or 0

    def init(self) -> None:
        if not self.initialized:
            super().init()
            self.parser = Parser(self.cfg, self.client)


def limit_heap() -> None:
    """Let threads share one heap and return what they free, or each keeps the memory of its largest response.

    mallopt(3) of glibc; other C libraries do nothing like it.
    """
    with suppress(AttributeError):
        set_option = ctypes.CDLL(None).mallopt
        for option in HEAP_OPTIONS:
            set_option(*option)


class PollingWorker(Worker):
    """Serves with `threads` threads that poll. The main thread accepts clients and closes idle connections."""

    def init_process(self) -> None:
        # Each connection needs a file descriptor, so the system's limit is also one of connections.
        _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        descriptors = min(self.cfg.worker_connections + OWN_DESCRIPTORS, limit)
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, limit))
        self.worker_connections = max(descriptors - OWN_DESCRIPTORS, self.cfg.threads)
        self.epoll = select.epoll()
        self.connections: set[Client] = set()
        self.lingering: set[Client] = set()  # they have all responses; the client should hang up
        # Waiting connections by descriptor. The thread that removes one owns it.
        self.waiting: dict[int, Client] = {}
        limit_heap()
        self.receive_flags = 0 if self.cfg.is_ssl else socket.MSG_DONTWAIT  # Python's TLS takes no flags
        # Reading settings as plain attributes saves 8 µs a request.
        self.cfg.__dict__.update({name: setting.get() for name, setting in self.cfg.settings.items()})
        Worker.init_process(self)

    def run(self) -> None:
        for number in range(self.cfg.threads):
            threading.Thread(target=self._serve, name=f"serve-{number}", daemon=True).start()
        while self.alive and self.ppid == os.getppid():
            self._accept_clients(time.monotonic() + TICK)
            self._tick()
        self._stop()

    def _stop(self) -> None:
        """Answer the requests that have begun, with "Connection: close", and close what is idle."""
        self.alive = False
        for listener in self.sockets:  # else clients would connect and wait in vain; the master keeps its own
            listener.close()
        deadline = time.monotonic() + self.cfg.graceful_timeout
        while self.connections and time.monotonic() < deadline:
            for connection in list(self.waiting.values()):
                if not connection.deadline:
                    connection.timeout = min(connection.timeout, time.monotonic() + STOP_KEEPALIVE_LINGER)
            time.sleep(SHORT_TICK)
            self._tick()

    def _accept_clients(self, until: float) -> None:
        """Accept clients while there is room, until that time or a signal.

        The epoll set does not hold the listeners: new clients would wait behind readable connections, for seconds.
        """
        while self.alive and (seconds := until - time.monotonic()) > 0:
            is_full = len(self.connections) >= self.worker_connections
            sources = [self.PIPE[0]] if is_full else [self.PIPE[0], *self.sockets]
            ready = select.select(sources, [], [], min(seconds, SHORT_TICK) if is_full else seconds)[0]
            if self.PIPE[0] in ready:
                os.read(self.PIPE[0], 4096)
                return
            for listener in ready:
                self._accept(listener)
            if ready:
                time.sleep(ACCEPT_PAUSE)

    def _accept(self, listener: socket.socket) -> None:
        if not self.alive:  # it has served --max-requests
            return
        try:
            client, address = listener.accept()
            connection = Client(self.cfg, client, address, listener.getsockname())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", RESPONSE_TIMEOUT, 0))
            connection.data_ready = True  # it is handled only once it is readable
            self.connections.add(connection)
            self._watch(connection, self.epoll.register, max(self.cfg.keepalive, FIRST_REQUEST_TIMEOUT))
        except (BlockingIOError, ConnectionAbortedError):  # another worker was faster, or the client has gone
            pass
        except OSError:  # if the client is not watched, _tick() closes it
            self.log.exception("Error accepting a client")
            time.sleep(ERROR_PAUSE)  # descriptors may have run out

    def _tick(self) -> None:
        """Tell the master that the worker is alive, and close connections that have waited too long."""
        self.notify()
        now = time.monotonic()
        for descriptor, connection in list(self.waiting.items()):
            if connection.timeout <= now and self.waiting.pop(descriptor, None):
                self._time_out(connection)

    def _serve(self) -> None:
        while True:
            for descriptor, _ in self.epoll.poll(maxevents=1):
                if connection := self.waiting.pop(descriptor, None):
                    self._answer(connection)

    def _answer(self, connection: Client) -> None:
        """Answer the requests on a readable connection, then wait for more or for the client to hang up."""
        try:
            seconds = self._read(connection)
            if seconds > 0:
                self._watch(connection, self.epoll.modify, seconds)
            else:
                self._time_out(connection)
            return
        except OSError:  # the client has gone
            pass
        except BaseException:  # whatever it is, the thread goes on
            self.log.exception("Error handling a connection")
        self._close(connection)

    def _read(self, connection: Client) -> float:
        """Read what has arrived, and answer it. Return how many seconds to wait for more or for the end."""
        seconds: float = connection.timeout - time.monotonic()
        connection.init()
        try:
            data = connection.sock.recv(65536, self.receive_flags)
        except BlockingIOError:  # what was readable may be gone (epoll(7), select(2))
            return seconds
        if connection in self.lingering:
            return seconds if data else 0
        return self._handle_requests(connection, data)

    def _handle_requests(self, connection: Client, data: bytes) -> float:
        """Answer all requests that have arrived. Return how many seconds to wait for more or for the end."""
        received = connection.parser.received
        received.add(data)
        try:
            while self._handle_request(connection):
                connection.deadline = 0.0
                if not received.size():
                    return float(self.cfg.keepalive)
        except Incomplete:
            return self._seconds_for_the_rest(connection)
        return self._linger(connection)

    def _handle_request(self, connection: Client) -> bool:
        """Answer the next request that has arrived. Return whether the connection can be used again."""
        request = None
        try:
            request = next(connection.parser)
            keep_alive = self._count_request() and not request.should_close()
            respond(self.wsgi, request, connection, keep_alive=keep_alive)
        except (StopIteration, NoMoreData):
            return False
        except OSError:
            raise
        except Exception as error:
            self.handle_error(request, connection.sock, connection.client, error)
            return False
        try:
            return keep_alive and connection.parser.finish()
        except ParseException:  # of the rest of a body whose request has had its response
            return False

    def _count_request(self) -> bool:
        """Count a request, and stop after --max-requests. Return whether its connection may wait for another."""
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Restarting after --max-requests")
            self.alive = False
        return self.alive and len(self.waiting) < self.worker_connections - self.cfg.threads

    def _seconds_for_the_rest(self, connection: Client) -> float:
        """Return how many seconds are left for a request that has begun to arrive."""
        now = time.monotonic()
        connection.deadline = connection.deadline or now + REQUEST_TIMEOUT
        if connection.parser.wants_continue:
            connection.parser.wants_continue = False
            connection.sock.sendall(CONTINUE)
        return connection.deadline - now

    def _linger(self, connection: Client) -> float:
        """End the responses. Return how many seconds to wait for the client to hang up.

        Unread data would reset a connection that is closed at once, and lose the response (RFC 9112, section 9.6).
        """
        connection.sock.shutdown(socket.SHUT_WR)
        connection.deadline = 0.0
        self.lingering.add(connection)
        return LINGER

    def _time_out(self, connection: Client) -> None:
        """Close a connection that has waited too long; if a request had begun, say so."""
        try:
            if connection.deadline:
                connection.sock.setblocking(False)
                connection.sock.send(f"{TIMED_OUT_HEAD}X-Request-ID: {uuid4().hex}\r\n\r\n{TIMED_OUT}".encode())
                self._watch(connection, self.epoll.modify, self._linger(connection))
                return
        except OSError:  # the client has gone
            pass
        self._close(connection)

    def _watch(self, connection: Client, add: Any, seconds: float) -> None:
        """Let any idle thread take the connection when it is readable."""
        connection.timeout = time.monotonic() + seconds
        descriptor = connection.sock.fileno()
        self.waiting[descriptor] = connection
        add(descriptor, ONE_THREAD)

    def _close(self, connection: Client) -> None:
        connection.close()
        self.lingering.discard(connection)
        self.connections.discard(connection)
