"""A connection pool in autocommit mode.

The pool is SQLAlchemy's; connections are used without its engine, whose execution costs 50 µs a statement. In
autocommit mode no BEGIN, COMMIT or ROLLBACK is sent, which saves 110 µs of a read.
"""

import select
import time
from threading import get_ident
from typing import Any

from psycopg2.extensions import BYTES, register_type
from sqlalchemy import URL, PoolProxiedConnection, event
from sqlalchemy.pool import QueuePool

IDLE = 0.1  # seconds; a connection that was idle longer may have been closed by the server
STANDBY_RETRY = 1.0  # seconds; minimum age before a connection to a read-only server is replaced
CONNECTED_AT, USED_AT = "connected_at", "used_at"  # keys of `connection.info`; values of time.monotonic()


class Connections:
    """Live connections to the database at `url`; `options` are QueuePool's, `arguments` the driver's."""

    def __init__(self, url: URL, arguments: dict[str, Any], **options: Any) -> None:
        dialect_class: Any = url.get_dialect()
        self.dialect = dialect_class(paramstyle="named" if url.drivername == "sqlite" else "pyformat")
        self.is_sqlite = self.dialect.name == "sqlite"
        self.driver: Any = self.dialect.import_dbapi()
        self._positional, named = self.dialect.create_connect_args(url)
        self._named = {**named, **arguments, **({"isolation_level": None} if self.is_sqlite else {})}
        self.pool = QueuePool(self._open, reset_on_return=None, **options)
        event.listen(self.pool, "connect", note_connected)
        self._waiting: set[int] = set()  # thread ids
        self._stale_before = 0.0

    def in_use(self) -> int:
        """Return the number of connections that statements are running on."""
        return self.pool.checkedout()

    def waiting(self) -> int:
        """Return the number of threads that wait for a connection."""
        return len(self._waiting)

    def take(self) -> PoolProxiedConnection:
        """Return a live connection. Raises the driver's error, or SQLAlchemy's TimeoutError when none is free."""
        thread = get_ident()
        self._waiting.add(thread)
        try:
            while True:
                connection = self.pool.connect()
                if self.is_sqlite or not (self._is_stale(connection) or was_closed(connection)):
                    return connection
                connection.invalidate()
        finally:
            self._waiting.discard(thread)

    def discard(self, connection: PoolProxiedConnection) -> None:
        """Close a connection and treat all older ones as stale.

        Otherwise a request could use up its retries on dead connections.
        """
        if not self._is_stale(connection):
            self._stale_before = time.monotonic()
        connection.invalidate()

    def _open(self) -> Any:
        """Connect. Text comes as bytes of UTF-8: JSON is passed on without decoding it."""
        connection = self.driver.connect(*self._positional, **self._named)
        if self.is_sqlite:
            connection.text_factory = bytes
        else:
            connection.autocommit = True
            register_type(BYTES, connection)
        return connection

    def _is_stale(self, connection: PoolProxiedConnection) -> bool:
        return bool(connection.info[CONNECTED_AT] < self._stale_before)


def note_connected(_connection: Any, record: Any) -> None:
    record.info[CONNECTED_AT] = time.monotonic()


def may_be_old_primary(connection: PoolProxiedConnection) -> bool:
    """Return whether a connection is so old that a new one may reach another server, after a failover."""
    return bool(time.monotonic() - connection.info[CONNECTED_AT] > STANDBY_RETRY)


def was_closed(connection: PoolProxiedConnection) -> bool:
    """Return whether the server has closed a connection that was idle in the pool.

    Polling the socket takes 2 µs and releases the GIL, so a connection just used is not polled. A ping takes 80 µs.
    """
    now = time.monotonic()
    idle_for = now - connection.info.get(USED_AT, now)  # on a new connection messages of the server may still wait
    connection.info[USED_AT] = now
    if idle_for < IDLE:
        return False
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))
