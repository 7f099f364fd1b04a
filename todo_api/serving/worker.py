"""A gunicorn worker whose threads wait for requests themselves.

In gunicorn's own threaded worker one thread waits and hands each request to another, and back when it is answered:
futures, a pipe, two wake-ups. Here any idle thread takes the next readable connection from one epoll set and answers
it; the main thread lets clients in. Reading, parsing and answering a request stay gunicorn's own
(`ThreadWorker.handle`).
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
# Between two clients, for another worker to take the second: one that took a whole burst would answer it alone, at half
# the speed.
COURTESY_SECONDS = 0.0003
STOPPING_TICK_SECONDS = 0.05
FULL_SECONDS = 0.05  # between two looks whether a client has left
ONCE = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLONESHOT  # of the waiting threads one gets the connection


class PollingWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """Serves with `threads` threads, each of which polls; the main thread keeps time and lets clients in.

    Leans on gunicorn as it was in 27.0.1.
    """

    alive: bool
    worker_connections: int
    handle_exit, handle_quit = Worker.handle_exit, Worker.handle_quit  # ThreadWorker's tell threads that are not here

    def init_process(self) -> None:
        # Each connection takes a descriptor; where there are fewer, fewer are accepted.
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        descriptors = min(self.worker_connections + OWN_DESCRIPTORS, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, most))
        self.worker_connections = max(descriptors - OWN_DESCRIPTORS, self.cfg.threads)
        self.epoll = select.epoll()
        self.connections: set[TConn] = set()
        self.parting: set[TConn] = set()  # answered for good; only the client's end is waited for
        # Idle connections by descriptor. Who takes one out owns it.
        self.keepalived_conns: dict[int, TConn] = {}
        # As plain attributes the settings are found 8 us a request sooner.
        self.cfg.__dict__.update({name: setting.get() for name, setting in self.cfg.settings.items()})
        Worker.init_process(self)

    def run(self) -> None:
        for number in range(self.cfg.threads):
            threading.Thread(target=self._serve, name=f"serve-{number}", daemon=True).start()
        while self.alive and self.is_parent_alive():
            self._let_in(time.monotonic() + TICK_SECONDS)
            self._tick()
        self.alive = False
        for listener in self.sockets:  # or clients would still come, and wait for nothing; the master has its own
            listener.close()
        # A request that is on its way is still answered, with "Connection: close".
        stopped = time.monotonic()
        while self.connections and time.monotonic() - stopped < self.cfg.graceful_timeout:
            for connection in list(self.keepalived_conns.values()):
                connection.timeout = min(connection.timeout, time.monotonic() + STOP_KEEPALIVE_LINGER)
            time.sleep(STOPPING_TICK_SECONDS)
            self._tick()

    def _let_in(self, until: float) -> None:
        """Accept clients while there is room, until that time or a signal.

        Among the connections in epoll the listeners would have one turn in a round, and a client would wait for as
        many rounds as there are clients before it: seconds, where there are hundreds.
        """
        while self.alive and (seconds := until - time.monotonic()) > 0:
            if len(self.connections) < self.worker_connections:
                listeners = self.sockets
            else:
                listeners, seconds = [], min(seconds, FULL_SECONDS)
            ready = select.select([self.PIPE[0], *listeners], [], [], seconds)[0]
            if self.PIPE[0] in ready:
                os.read(self.PIPE[0], 4096)
                return
            for listener in ready:
                self._accept(listener)
            if ready:
                time.sleep(COURTESY_SECONDS)

    def _tick(self) -> None:
        """Tell the arbiter that the worker lives, and close what idled too long."""
        self.notify()
        now = time.monotonic()
        for descriptor, connection in list(self.keepalived_conns.items()):
            if connection.timeout <= now and self.keepalived_conns.pop(descriptor, None):
                self._close(connection)

    def _serve(self) -> None:
        while True:
            try:
                for descriptor, _ in self.epoll.poll(maxevents=1):
                    if connection := self.keepalived_conns.pop(descriptor, None):
                        self._answer(connection)
            except BaseException:  # whatever it is, the thread goes on
                self.log.exception("Error handling a connection")

    def _accept(self, listener: socket.socket) -> None:
        if not self.alive:  # enough requests for this worker (--max-requests)
            return
        try:
            client, address = listener.accept()
            connection = TConn(self.cfg, client, address, listener.getsockname())
            connection.data_ready = True  # it is handled only once it is readable
            self.connections.add(connection)
            self._wait(connection, self.epoll.register, max(self.cfg.keepalive, FIRST_REQUEST_SECONDS))
        except (BlockingIOError, ConnectionAbortedError):  # another was faster, or the client has gone
            pass
        except OSError:  # a client that was let in and cannot be watched is closed when its time is over
            self.log.exception("Error accepting a client")
            time.sleep(PAUSE_SECONDS)  # it may be there again at once, as when descriptors have run out

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
        except BaseException:
            self._close(connection)
            raise
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
