"""A gunicorn worker whose threads wait for requests themselves.

In gunicorn's threaded worker, one thread waits for requests and hands them over through futures and a pipe. Here the
main thread accepts clients, and any idle thread takes the next readable connection from one epoll set. It reads what
has arrived, and only a complete request goes to the application, so no client can hold a thread by sending slowly. This
relies on gunicorn's internals as of 27.0.1.
"""

import ctypes
import os
import resource
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gunicorn.workers.base import Worker

from todo_api.serving.connection import Connection

OWN_DESCRIPTORS = 256  # for the database, files and everything else except clients
TICK = 1.0  # seconds, as all times here
SHORT_TICK = 0.05  # while the worker cannot accept, is full or stops, and waits for connections to end
# After accepting a client, a worker leaves the next one to another. If one takes a whole burst, it is half as fast.
ACCEPT_PAUSE = 0.0003
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of malloc.h
# Of 50 lists of 9 MB at a time, two workers take 230 MiB in place of 230 to 270.
HEAP_OPTIONS = (M_ARENA_MAX, 1), (M_MMAP_THRESHOLD, 1 << 20), (M_TRIM_THRESHOLD, 1 << 20)  # bytes
ONE_THREAD = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLONESHOT


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

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Warn of options of gunicorn that have no effect."""
        if cfg.accesslog:
            log.warning("No access log is written: the service's own log has a line for each request.")

    def init_process(self) -> None:
        # Each connection needs a file descriptor, so the system's limit is also one of connections.
        _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        descriptors = min(self.cfg.worker_connections + OWN_DESCRIPTORS, limit)
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, limit))
        self.most_connections = max(descriptors - OWN_DESCRIPTORS, self.cfg.threads)
        self.epoll = select.epoll()
        self.connections: set[Connection] = set()
        # Waiting connections by descriptor. The thread that removes one owns it.
        self.waiting: dict[int, Connection] = {}
        limit_heap()
        self.cfg.set("do_handshake_on_connect", True)  # of TLS, in the thread that serves the client
        # Reading settings as plain attributes saves 8 µs a request.
        self.cfg.__dict__.update({name: setting.get() for name, setting in self.cfg.settings.items()})
        super().init_process()

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
                connection.hurry()
            time.sleep(SHORT_TICK)
            self._tick()

    def _accept_clients(self, until: float) -> None:
        """Accept clients while there is room, until that time or a signal.

        The epoll set does not hold the listeners: new clients would wait behind readable connections, for seconds.
        """
        while self.alive and (seconds := until - time.monotonic()) > 0:
            is_full = len(self.connections) >= self.most_connections
            sources = [self.PIPE[0]] if is_full else [self.PIPE[0], *self.sockets]
            ready = select.select(sources, [], [], min(seconds, SHORT_TICK) if is_full else seconds)[0]
            if self.PIPE[0] in ready:
                os.read(self.PIPE[0], 4096)
                return
            for listener in ready:
                self._accept(listener)
                paused = time.monotonic()
                time.sleep(ACCEPT_PAUSE)
                # While threads are busy, it waits for the GIL, often for longer. Accept those who came meanwhile.
                late = int((time.monotonic() - paused) / ACCEPT_PAUSE) - 1
                for _ in range(min(late, self.most_connections - len(self.connections))):
                    if time.monotonic() >= until or not self._accept(listener):
                        break

    def _accept(self, listener: socket.socket) -> bool:
        """Accept a client, and return whether that worked."""
        if not self.alive:  # it has served --max-requests
            return False
        try:
            connection = Connection(self, *listener.accept())
            self.connections.add(connection)
            self._watch(connection, self.epoll.register)
            return True
        except (BlockingIOError, ConnectionAbortedError):  # another worker was faster, or the client has gone
            pass
        except OSError:  # if the client is not watched, _tick() closes it
            self.log.exception("Error accepting a client")
            time.sleep(SHORT_TICK)  # descriptors may have run out
        return False

    def _tick(self) -> None:
        """Tell the master that the worker is alive, and end connections that have waited too long."""
        self.notify()
        now = time.monotonic()
        for descriptor in [number for number, connection in list(self.waiting.items()) if connection.until <= now]:
            if connection := self.waiting.pop(descriptor, None):
                self._go_on(connection, connection.time_out)

    def _serve(self) -> None:
        while True:
            for descriptor, _ in self.epoll.poll(maxevents=1):
                if connection := self.waiting.pop(descriptor, None):
                    self._go_on(connection, connection.proceed)

    def _go_on(self, connection: Connection, step: Callable[[], bool]) -> None:
        """Do a step of the connection. Then wait until it is readable again, or close it."""
        try:
            if step():
                self._watch(connection, self.epoll.modify)
                return
        except OSError:  # the client has gone
            pass
        except BaseException:  # whatever it is, the thread goes on
            self.log.exception("Error handling a connection")
        connection.close()
        self.connections.discard(connection)

    def _watch(self, connection: Connection, add: Callable[[int, int], None]) -> None:
        """Let any idle thread take the connection when it is readable."""
        descriptor = connection.fileno()
        self.waiting[descriptor] = connection
        add(descriptor, ONE_THREAD)

    def may_keep_alive(self) -> bool:
        """Count a request, and stop after --max-requests. Return whether its connection may wait for another."""
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Restarting after --max-requests")
            self.alive = False
        return bool(self.alive and self.cfg.keepalive and len(self.waiting) < self.most_connections - self.cfg.threads)
