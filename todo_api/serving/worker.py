"""A gunicorn worker whose threads wait for requests themselves.

In gunicorn's threaded worker, one thread waits for requests and hands them over through futures and a pipe. Here the
main thread accepts clients, and any idle thread takes the next readable connection from one epoll set. gunicorn parses
and answers the requests (`ThreadWorker.handle`). This relies on gunicorn's internals as of 27.0.1.
"""

import os
import resource
import select
import socket
import threading
import time
from typing import Any

from gunicorn.http.errors import ParseException
from gunicorn.workers.base import Worker
from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER, TConn, ThreadWorker

OWN_DESCRIPTORS = 256  # for the database, files and everything else except clients
# Times are in seconds.
FIRST_REQUEST_TIMEOUT = 5
LINGER = 2  # how long a client may take to hang up after "Connection: close"
TICK = 1.0
SHORT_TICK = 0.05  # while the worker is full or stops, and waits for connections to end
ERROR_PAUSE = 0.1
# After accepting a client, a worker leaves the next one to another. If one takes a whole burst, it is half as fast.
ACCEPT_PAUSE = 0.0003
ONE_THREAD = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLONESHOT


class PollingWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """Serves with `threads` threads that poll. The main thread accepts clients and closes idle connections."""

    alive: bool
    worker_connections: int
    handle_exit, handle_quit = Worker.handle_exit, Worker.handle_quit  # ThreadWorker's need its own event loop

    def init_process(self) -> None:
        # Each connection needs a file descriptor, so the system's limit is also one of connections.
        _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        descriptors = min(self.worker_connections + OWN_DESCRIPTORS, limit)
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, limit))
        self.worker_connections = max(descriptors - OWN_DESCRIPTORS, self.cfg.threads)
        self.epoll = select.epoll()
        self.connections: set[TConn] = set()
        self.lingering: set[TConn] = set()  # they have all responses; the client should hang up
        # Waiting connections by descriptor. The thread that removes one owns it.
        self.keepalived_conns: dict[int, TConn] = {}
        # Reading settings as plain attributes saves 8 µs a request.
        self.cfg.__dict__.update({name: setting.get() for name, setting in self.cfg.settings.items()})
        Worker.init_process(self)

    def run(self) -> None:
        for number in range(self.cfg.threads):
            threading.Thread(target=self._serve, name=f"serve-{number}", daemon=True).start()
        while self.alive and self.is_parent_alive():
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
            for connection in list(self.keepalived_conns.values()):
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
            connection = TConn(self.cfg, client, address, listener.getsockname())
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
        for descriptor, connection in list(self.keepalived_conns.items()):
            if connection.timeout <= now and self.keepalived_conns.pop(descriptor, None):
                self._close(connection)

    def _serve(self) -> None:
        while True:
            for descriptor, _ in self.epoll.poll(maxevents=1):
                if connection := self.keepalived_conns.pop(descriptor, None):
                    self._answer(connection)

    def _answer(self, connection: TConn) -> None:
        """Answer the requests on a readable connection, then wait for more or for the client to hang up."""
        try:
            if connection not in self.lingering:
                self._watch(connection, self.epoll.modify, self._handle_requests(connection))
                return
            if connection.sock.recv(65536):
                self._watch(connection, self.epoll.modify, connection.timeout - time.monotonic())
                return
        except OSError:  # the client has gone
            pass
        except BaseException:  # whatever it is, the thread goes on
            self.log.exception("Error handling a connection")
        self._close(connection)

    def _handle_requests(self, connection: TConn) -> float:
        """Answer all requests that have arrived. Return how many seconds to wait for more or for the end."""
        while self.handle(connection):
            if not connection.parser.unreader.buf.getvalue():  # else the next request has already been read
                return float(self.cfg.keepalive)
        # Do not close yet. Unread data would reset the connection and lose the response (RFC 9112, section 9.6).
        connection.sock.shutdown(socket.SHUT_WR)
        self.lingering.add(connection)
        return LINGER

    def _keepalive_after(self, conn: TConn, keepalive: bool) -> bool:
        """Close a connection if the rest of a request body cannot be read. The request has had its response."""
        try:
            return bool(super()._keepalive_after(conn, keepalive))
        except ParseException:
            return False

    def _watch(self, connection: TConn, add: Any, seconds: float) -> None:
        """Let any idle thread take the connection when it is readable."""
        connection.timeout = time.monotonic() + seconds
        descriptor = connection.sock.fileno()
        self.keepalived_conns[descriptor] = connection
        add(descriptor, ONE_THREAD)

    def _close(self, connection: TConn) -> None:
        connection.close()
        self.lingering.discard(connection)
        self.connections.discard(connection)
