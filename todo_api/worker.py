"""A gunicorn worker whose threads wait for requests themselves.

In gunicorn's own threaded worker one thread waits and hands each request to another, and back when it is answered:
futures, a pipe, two wake-ups. Here any idle thread takes the next readable connection from one epoll set and answers
it. Reading, parsing and answering a request stay gunicorn's own (`ThreadWorker.handle`).
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

OWN_DESCRIPTORS = 256  # for the database, files, and what a worker needs besides its clients
FIRST_REQUEST_SECONDS = 5
PARTING_SECONDS = 2
PAUSE_SECONDS = 0.1
TICK_SECONDS = 1.0
COURTESY_SECONDS = 0.0003  # between two clients, for another worker to take the second
STOPPING_TICK_SECONDS = 0.05
# The workers compete for each client: woken one at a time (EPOLLEXCLUSIVE), and without the courtesy, the first would
# take a whole burst and answer it alone, at half the speed.
NEXT_CLIENT = select.EPOLLIN | select.EPOLLONESHOT
ONCE = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLONESHOT  # of the waiting threads one gets the connection


class PollingWorker(ThreadWorker):  # type: ignore[misc]
    """Serves with `threads` threads, each of which polls; the main thread keeps time.

    Leans on gunicorn as it was in 27.0.1.
    """

    alive: bool
    _accepting: bool
    worker_connections: int

    def init_process(self) -> None:
        # Each connection takes a descriptor; where there are fewer, fewer are accepted.
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        descriptors = min(self.worker_connections + OWN_DESCRIPTORS, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, most))
        self.worker_connections = max(descriptors - OWN_DESCRIPTORS, self.cfg.threads)
        self.epoll = select.epoll()
        self.listeners = {listener.fileno(): listener for listener in self.sockets}
        self.connections: set[TConn] = set()
        self.parting: set[TConn] = set()  # answered for good; only the client's end is waited for
        self.accept_lock = threading.Lock()
        # Idle connections by descriptor. Who takes one out owns it.
        self.keepalived_conns: dict[int, TConn] = {}
        # As plain attributes the settings are found 8 us a request sooner.
        self.cfg.__dict__.update({name: setting.get() for name, setting in self.cfg.settings.items()})
        Worker.init_process(self)

    def handle_exit(self, sig: int, frame: Any) -> None:
        Worker.handle_exit(self, sig, frame)

    def handle_quit(self, sig: int, frame: Any) -> None:
        Worker.handle_quit(self, sig, frame)

    def run(self) -> None:
        for number in range(self.cfg.threads):
            threading.Thread(target=self._serve, name=f"serve-{number}", daemon=True).start()
        while self.alive and self.is_parent_alive():
            self._accept_while_there_is_room()
            self._tick(TICK_SECONDS)
        self.alive = False
        self._accept_while_there_is_room()
        # A request that is on its way is still answered, with "Connection: close".
        stopped = time.monotonic()
        while self.connections and time.monotonic() - stopped < self.cfg.graceful_timeout:
            for connection in list(self.keepalived_conns.values()):
                connection.timeout = min(connection.timeout, time.monotonic() + STOP_KEEPALIVE_LINGER)
            self._tick(STOPPING_TICK_SECONDS)

    def _accept_while_there_is_room(self) -> None:
        with self.accept_lock:
            enabled = self.alive and len(self.connections) < self.worker_connections
            if enabled == self._accepting:
                return
            for descriptor, listener in self.listeners.items():
                if enabled:
                    listener.setblocking(False)
                    self.epoll.register(descriptor, NEXT_CLIENT)
                else:
                    self.epoll.unregister(descriptor)
            self._accepting = enabled

    def _tick(self, seconds: float) -> None:
        """Tell the arbiter that the worker lives, wait or be woken by a signal, and close what idled too long."""
        self.notify()
        if select.select([self.PIPE[0]], [], [], seconds)[0]:
            os.read(self.PIPE[0], 4096)
        now = time.monotonic()
        for descriptor, connection in list(self.keepalived_conns.items()):
            if connection.timeout <= now and self.keepalived_conns.pop(descriptor, None):
                self._close(connection)

    def _serve(self) -> None:
        while True:
            try:
                for descriptor, _ in self.epoll.poll(maxevents=1):
                    if descriptor in self.listeners:
                        self._accept(self.listeners[descriptor])
                    elif connection := self.keepalived_conns.pop(descriptor, None):
                        self._answer(connection)
            except BaseException:  # whatever it is, the thread goes on
                self.log.exception("Error handling a connection")
                time.sleep(PAUSE_SECONDS)  # it may be there again at once, as when descriptors have run out

    def _accept(self, listener: socket.socket) -> None:
        try:
            client, address = listener.accept()
            connection = TConn(self.cfg, client, address, listener.getsockname())
            connection.data_ready = True  # it is handled only once it is readable
            self.connections.add(connection)
            self._wait(connection, self.epoll.register, max(self.cfg.keepalive, FIRST_REQUEST_SECONDS))
        except (BlockingIOError, ConnectionAbortedError):  # another was faster, or the client has gone
            pass
        finally:
            self._accept_while_there_is_room()
            time.sleep(COURTESY_SECONDS)
            with self.accept_lock:
                if self._accepting:
                    self.epoll.modify(listener.fileno(), NEXT_CLIENT)

    def _answer(self, connection: TConn) -> None:
        """Answer the requests that have come, then wait for more, or for the client to hang up as well."""
        try:
            if connection in self.parting:
                if connection.sock.recv(65536):
                    self._wait(connection, self.epoll.modify, connection.timeout - time.monotonic())
                    return
            else:
                while self.handle(connection):
                    if not connection.parser.unreader.buf.getvalue():  # else the next request has been read already
                        self._wait(connection, self.epoll.modify, self.cfg.keepalive)
                        return
                # Closed at once, what the client still sends could cost it the answer (RFC 9112, section 9.6).
                connection.sock.shutdown(socket.SHUT_WR)
                self.parting.add(connection)
                self._wait(connection, self.epoll.modify, PARTING_SECONDS)
                return
        except OSError:  # the client has gone
            pass
        finally:
            if not self.alive:  # enough requests for this worker (--max-requests)
                self._accept_while_there_is_room()
        self._close(connection)

    def _keepalive_after(self, conn: TConn, keepalive: bool) -> bool:
        """Hang up where the rest of a body cannot be read: its request has had its one answer."""
        try:
            return bool(super()._keepalive_after(conn, keepalive))
        except ParseException:
            return False

    def _wait(self, connection: TConn, put: Any, seconds: float) -> None:
        """Let whichever thread is free take the connection when it is readable."""
        connection.timeout = time.monotonic() + seconds
        descriptor = connection.sock.fileno()
        self.keepalived_conns[descriptor] = connection
        put(descriptor, ONCE)

    def _close(self, connection: TConn) -> None:
        connection.close()
        self.parting.discard(connection)
        self.connections.discard(connection)
