"""Runs statements, each as a transaction of its own, and repeats what a lost connection cannot have doubled.

It uses the driver's connections as the pool keeps them: SQLAlchemy's own execution would cost 50 us a statement. The
pool's methods that it calls for this are private, as they were in SQLAlchemy 2.1.9.
"""

import select
import time
from collections.abc import Mapping
from contextlib import nullcontext
from threading import Lock, get_ident
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from todo_api.database.prepared import KEPT, Preparer
from todo_api.database.watchdog import Wait, Watchdog
from todo_api.errors import Unavailable

PATIENCE_SECONDS = 2.0  # how long requests wait for a database that just went away; later ones fail at once
PAUSE_SECONDS = 0.05
REPEATS = 3
IDLE_SECONDS = 0.1  # from here on a connection may have been closed as idle
ROLLED_BACK = ("40001", "40P01")  # serialization failure, deadlock: nothing was done
# The statement is not there, or there already (behind a pooler after all), or its table has changed since.
NOT_PREPARED = ("26000", "42P05", "0A000")
STANDBY = "25006"  # a failover left us with a standby
STANDBY_SECONDS = 1.0  # where all are read-only, a connection serves that long at least

CONNECTED = "connected"  # by time.monotonic(): the pool's own note is of a clock that may be set back

PoolEntry = Any  # a place in the pool and the connection that it holds: _ConnectionRecord of SQLAlchemy


class DatabaseError(Exception):
    """The database refused a statement for the SQLSTATE `code`; the message quotes no value of a row."""

    def __init__(self, error: Exception) -> None:
        self.code = getattr(error, "pgcode", None)
        said = getattr(getattr(error, "diag", None), "message_primary", None) or str(error)
        Exception.__init__(self, f"{self.code or type(error).__name__}: {' '.join(said.split())}")


class DatabaseUnavailable(DatabaseError, Unavailable):
    """The database is away, too slow, read-only, or has no connection left."""

    error_code = "DATABASE_UNAVAILABLE"
    detail = "The database cannot be reached."

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.log_message = str(self)


class ConstraintViolated(DatabaseError):
    """A constraint of a table forbids the statement."""


class Database:
    """The pool of connections of one engine in autocommit mode."""

    def __init__(self, engine: Engine, timeout_seconds: int) -> None:
        self.is_sqlite = engine.dialect.name == "sqlite"
        self._engine = engine
        self._driver: Any = engine.dialect.loaded_dbapi
        # SQLite plans in no time, and waits for its lock as long as the connection was told to.
        self._preparer = None if self.is_sqlite else Preparer(timeout_seconds)
        self._watchdog = Watchdog(timeout_seconds + 1)  # the server's own limit comes first
        # None while it answers. Requests wait for it PATIENCE_SECONDS from then on; later, one at a time looks whether
        # it is back (`_looking`), and all others fail at once. Any answer ends that.
        self._away_since: float | None = None
        self._lost_at = 0.0  # connections from before then are replaced
        self._looking = Lock()
        self._waiting: set[int] = set()  # threads
        self._first_questions: dict[int, Wait] = {}  # by thread: the limit on their time
        if not self.is_sqlite:
            event.listen(engine, "do_connect", self._connect)

    def in_use(self) -> int:
        """Return the number of connections that statements are running on."""
        return int(self._engine.pool.checkedout())  # type: ignore[attr-defined]  # typed by its base class

    def waiting(self) -> int:
        """Return the number of threads that wait for a connection."""
        return len(self._waiting)

    def run(self, sql: str, values: Mapping[str, Any], *, repeatable: bool) -> list[Any]:
        """Run one statement and return the first column of its rows. Raises DatabaseError.

        Nothing has been done, and the statement is run again, when no connection could be made or the database rolled
        it back. When its connection was lost, it is run again if that is harmless: `repeatable`.
        """
        away_since = self._away_since
        if away_since is None or not self._is_late(away_since):
            return self._run(sql, values, repeatable)
        # Each request would wait 10 s for a database that hangs, and soon no thread would be left to say so.
        if not self._looking.acquire(blocking=False):
            raise DatabaseUnavailable(TimeoutError("it is away, and another request looks whether it is back"))
        try:
            return self._run(sql, values, repeatable)
        finally:
            self._looking.release()

    def _run(self, sql: str, values: Mapping[str, Any], repeatable: bool) -> list[Any]:
        began = time.monotonic()
        repeats = 0
        while True:
            entry, sent = self._take(began), False
            wait = None if self.is_sqlite else self._watchdog.over(entry.dbapi_connection)
            try:
                cursor = entry.dbapi_connection.cursor()
                with wait or nullcontext():
                    text = self._preparer.prepare(cursor, entry.info, sql) if self._preparer else sql
                    sent = True
                    cursor.execute(text, values)
                    rows = [row[0] for row in cursor.fetchall()]
                self._away_since = None
                return rows
            except self._driver.Error as error:
                lost = self._is_lost(entry.dbapi_connection, error)
                if self._was_stale(entry, error):
                    continue  # at most once for each connection
                if lost or self._may_another_write(entry, error):
                    self._give_up(entry)
                if wait and wait.hung_up:
                    self._away_since = self._away_since or began
                if repeats == REPEATS or not self._may_repeat(error, lost, repeatable or not sent, began):
                    raise self._translated(error, lost) from None
                repeats += 1
            finally:
                self._give_back(entry)

    def _take(self, began: float) -> PoolEntry:
        """Take a live connection out of the pool, waiting as long as the patience for this request and outage lasts.

        Without the proxy that SQLAlchemy would put around it: 2 us in place of 7 to take it and give it back.
        """
        thread = get_ident()
        self._waiting.add(thread)
        try:
            while True:
                try:
                    entry = self._engine.pool._do_get()
                    if self._is_good(entry):
                        return entry
                except PoolTimeout as error:
                    raise DatabaseUnavailable(error) from None
                except (self._driver.Error, DBAPIError) as error:  # SQLAlchemy's own while it looks who answers
                    away_since = self._away_since = self._away_since or time.monotonic()
                    if self._is_late(min(began, away_since)):
                        raise DatabaseUnavailable(getattr(error, "orig", None) or error) from None
                    time.sleep(PAUSE_SECONDS)
                finally:
                    if questions := self._first_questions.pop(thread, None):
                        questions.__exit__(None, None, None)
        finally:
            self._waiting.discard(thread)

    def _is_good(self, entry: PoolEntry) -> bool:
        """Connect where need be, and tell whether the connection may be used; one that may not is given back.

        Raises the driver's error.
        """
        good = False
        try:
            entry.get_connection()
            good = self.is_sqlite or not (entry.info[CONNECTED] < self._lost_at or self._was_hung_up(entry))
        finally:
            if not good:
                entry.invalidate()
                self._give_back(entry)
        return good

    def _connect(self, _dialect: Any, entry: PoolEntry, where: Any, how: dict[str, Any]) -> Any:
        """Connect, and limit the time that SQLAlchemy's questions to a new connection may take."""
        entry.info[CONNECTED] = time.monotonic()
        connection = self._driver.connect(*where, **how)
        self._first_questions[get_ident()] = questions = self._watchdog.over(connection)
        questions.__enter__()
        return connection

    def _give_up(self, entry: PoolEntry) -> None:
        """Close a connection, and have all that were made before now replaced: what ended one has ended the others.

        Else a request would meet one dead connection after the other, more than it may repeat.
        """
        if entry.info[CONNECTED] >= self._lost_at:
            self._lost_at = time.monotonic()
        entry.invalidate()

    def _may_another_write(self, entry: PoolEntry, error: Exception) -> bool:
        """Tell whether a connection came to a standby so long ago that another may find who took over."""
        is_standby = getattr(error, "pgcode", None) == STANDBY
        return is_standby and bool(time.monotonic() - entry.info[CONNECTED] > STANDBY_SECONDS)

    def _give_back(self, entry: PoolEntry) -> None:
        self._engine.pool._do_return_conn(entry)

    def _was_hung_up(self, entry: PoolEntry) -> bool:
        """Tell whether the server has closed a connection that idled in the pool.

        Asking the socket costs 2 us and a turn at the GIL, so one just used is not asked; a ping would cost 80 us.
        """
        now = time.monotonic()
        idle_since = entry.info.get("idle_since", now)  # a new one may hold what the server has to say yet
        entry.info["idle_since"] = now
        if now - idle_since < IDLE_SECONDS:
            return False
        poll = select.poll()
        poll.register(entry.dbapi_connection.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def _was_stale(self, entry: PoolEntry, error: Exception) -> bool:
        """Tell whether what was prepared is to blame, and nothing was done; the connection keeps no more of it."""
        stale = getattr(error, "pgcode", None) in NOT_PREPARED and entry.info.get(KEPT) is not None
        if stale:
            entry.info[KEPT] = None
        return stale

    def _may_repeat(self, error: Exception, lost: bool, harmless: bool, began: float) -> bool:
        undone = getattr(error, "pgcode", None) in ROLLED_BACK
        return undone or (lost and harmless and not self._is_late(began))

    def _is_lost(self, connection: Any, error: Exception) -> bool:
        """Tell whether the server has gone; the driver does not notice when it left just before the statement."""
        if self.is_sqlite:
            return False
        unnoticed = type(error) is self._driver.DatabaseError and getattr(error, "pgcode", None) is None
        return unnoticed or bool(connection.closed)

    def _is_late(self, since: float) -> bool:
        return time.monotonic() - since > PATIENCE_SECONDS

    def _translated(self, error: Exception, lost: bool) -> DatabaseError:
        if isinstance(error, self._driver.IntegrityError):
            return ConstraintViolated(error)
        away = lost or isinstance(error, self._driver.OperationalError | self._driver.InterfaceError)
        return DatabaseUnavailable(error) if away or getattr(error, "pgcode", None) == STANDBY else DatabaseError(error)
