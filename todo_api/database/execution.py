"""Statement execution: each statement is one transaction, run again only where that is safe."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

from flask import Flask, current_app
from sqlalchemy import PoolProxiedConnection, make_url, text
from sqlalchemy.exc import TimeoutError as PoolTimeout

from todo_api.database import errors
from todo_api.database.connections import Connections, may_be_old_primary
from todo_api.database.errors import ConstraintViolated, DatabaseError, DatabaseUnavailable, sqlstate
from todo_api.database.prepared import PREPARED, PreparedStatement, Statement
from todo_api.database.watchdog import Watchdog

RETRY_WINDOW = 2.0  # seconds that requests wait for a database that just became unavailable; later ones fail at once
RETRY_PAUSE = 0.05
MAX_RETRIES = 3  # of a statement that the database rolled back
MAX_STALE = 100  # connections with a stale prepared statement that one statement may meet; a pool has fewer

ONE_STEP = nullcontext()
OPEN_GATE = nullcontext(False)

# A commit has no time limit, and waits for a synchronous standby even after its client has left. While the standby
# answers, each commit waits for a moment, too.
WAITING_COMMITS = Statement(
    text(
        "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND usename = session_user"
        " AND query_start < clock_timestamp() - interval '1 second' LIMIT 1"
    ),
    repeatable=True,
    is_common=False,
)

Rows = list[tuple[Any, ...]]
Result = tuple[Rows, int]  # the rows, and how many rows changed


class Outage:
    """A time in which statements get no answer.

    Requests retry for RETRY_WINDOW seconds; after that one at a time probes the database, and all others fail at once.
    """

    def __init__(self) -> None:
        self.since: float | None = None
        self._probing = Lock()

    def begin(self, at: float) -> None:
        self.since = self.since or at

    def end(self) -> None:
        self.since = None

    def gate(self) -> AbstractContextManager[bool]:
        """Return a context that lets a request pass and tells whether it probes. Raises DatabaseUnavailable."""
        since = self.since  # read once: another thread may reset it
        return OPEN_GATE if since is None else self._gate(since)

    @contextmanager
    def _gate(self, since: float) -> Iterator[bool]:
        probes = retry_window_elapsed(since)
        if probes and not self._probing.acquire(blocking=False):
            raise DatabaseUnavailable(TimeoutError("it is unavailable, and another request is probing it"))
        try:
            yield probes
        finally:
            if probes:
                self._probing.release()


class Database:
    """Runs statements; `timeout` is the limit of one in seconds. `on_statement` is told the seconds each took."""

    def __init__(self, connections: Connections, timeout: float) -> None:
        self.connections = connections
        self.is_sqlite = connections.is_sqlite
        self.on_statement: Callable[[float], None] | None = None
        self._driver = connections.driver
        self._timeout = timeout
        self._compiled: WeakKeyDictionary[Statement, PreparedStatement] = WeakKeyDictionary()
        self._watchdog = Watchdog(timeout + 1)  # the server's own limit comes first; not used for SQLite
        self._outage, self._outage_of_writes = Outage(), Outage()
        self._answered_at = 0.0

    def fetch(self, statement: Statement, values: Mapping[str, Any]) -> Rows:
        """Run a statement and return its rows, with text as bytes of UTF-8. Raises DatabaseError."""
        return self._run(statement, values)[0]

    def execute(self, statement: Statement, values: Mapping[str, Any]) -> int:
        """Run a statement and return how many rows it changed. Raises DatabaseError."""
        return self._run(statement, values)[1]

    def compiled(self, statement: Statement) -> PreparedStatement:
        """Return the statement compiled for the dialect in use."""
        if not (found := self._compiled.get(statement)):
            found = PreparedStatement.compile(statement, self.connections.dialect, self._timeout)
            self._compiled[statement] = found
        return found

    def _run(self, statement: Statement, values: Mapping[str, Any]) -> Result:
        began = time.perf_counter()
        try:
            with self._outage.gate():
                return (self._write if self.compiled(statement).writes else self._retry)(statement, values)
        finally:
            if self.on_statement:
                self.on_statement(time.perf_counter() - began)

    def _write(self, statement: Statement, values: Mapping[str, Any]) -> Result:
        """Run a statement that writes, unless writes get no answer. Reads then go on."""
        with self._outage_of_writes.gate() as probes:
            if probes and self._retry(WAITING_COMMITS, {})[0]:
                raise DatabaseUnavailable(TimeoutError("commits wait for a synchronous standby"))
            return self._retry(statement, values)

    def _retry(self, statement: Statement, values: Mapping[str, Any]) -> Result:
        """Run the statement until it succeeds or may not be run again."""
        compiled = self.compiled(statement)
        began = time.monotonic()
        failures = stale = 0
        while True:
            if failures > 1:  # the first retry comes at once: the connection was just closed
                time.sleep(RETRY_PAUSE)
            connection = self._connect(began)
            watched = connection.dbapi_connection
            sent = False
            try:
                self._watchdog.watch(watched)
                cursor: Any = connection.cursor()
                steps = compiled.steps if self.is_sqlite else [compiled.prepare(cursor, connection.info)]
                sent = True
                with transaction(cursor) if len(steps) > 1 else ONE_STEP:
                    for step in steps:
                        cursor.execute(step, values)
                    rows = cursor.fetchall() if cursor.description else []
                self._note_answer(compiled.writes)
                return rows, cursor.rowcount
            except self._driver.Error as error:
                timed_out = self._watchdog.release(watched)
                if stale < MAX_STALE and disable_if_stale(connection, error):
                    stale += 1
                    continue  # at most once for each connection
                lost = self._note_failure(connection, error)
                safe = lost and (statement.repeatable or not sent)
                failures += 1
                if not may_retry(error, safe=safe, began=began, failures=failures):
                    if timed_out or (safe and failures > 1):
                        self._note_outage(began, of_writes=timed_out and compiled.writes)
                    raise self._to_database_error(error, lost) from None
            finally:
                self._watchdog.release(watched)
                connection.close()

    def _connect(self, began: float) -> PoolProxiedConnection:
        """Take a live connection, waiting as long as the retry window of this request and this outage lasts."""
        while True:
            try:
                return self.connections.take()
            except PoolTimeout as error:
                raise DatabaseUnavailable(error) from None
            except self._driver.Error as error:
                self._outage.begin(time.monotonic())
                if retry_window_elapsed(min(began, self._outage.since or began)):
                    raise DatabaseUnavailable(error) from None
                time.sleep(RETRY_PAUSE)

    def _note_answer(self, writes: bool) -> None:
        self._answered_at = time.monotonic()
        self._outage.end()
        if writes:
            self._outage_of_writes.end()

    def _note_outage(self, began: float, *, of_writes: bool) -> None:
        """Note that a statement which began at that time got no answer. Others may have got theirs."""
        if of_writes:
            self._outage_of_writes.begin(began)
        if self._answered_at < began:
            self._outage.begin(began)

    def _note_failure(self, connection: PoolProxiedConnection, error: Exception) -> bool:
        """Return whether the connection was lost. Discard it if it cannot be used any more."""
        # The driver does not notice when the server left just before the statement.
        driver_missed_it = type(error) is self._driver.DatabaseError and sqlstate(error) is None
        driver_connection: Any = connection.dbapi_connection
        lost = not self.is_sqlite and (driver_missed_it or bool(driver_connection.closed))
        if lost or (sqlstate(error) == errors.READ_ONLY and may_be_old_primary(connection)):
            self.connections.discard(connection)
        return lost

    def _to_database_error(self, error: Exception, lost: bool) -> DatabaseError:
        if isinstance(error, self._driver.IntegrityError):
            return ConstraintViolated(error)
        away = isinstance(error, self._driver.OperationalError | self._driver.InterfaceError)
        return (DatabaseUnavailable if away or lost or sqlstate(error) == errors.READ_ONLY else DatabaseError)(error)


def transaction(cursor: Any) -> Any:
    """Begin to write on SQLite; return a context manager that commits, or rolls back after an error."""
    cursor.execute("BEGIN IMMEDIATE")
    return cursor.connection


def retry_window_elapsed(since: float) -> bool:
    """Return whether a retry window that began at `since`, a time.monotonic(), has ended."""
    return time.monotonic() - since > RETRY_WINDOW


def may_retry(error: Exception, *, safe: bool, began: float, failures: int) -> bool:
    """Return whether a statement may be run again: a repeat is `safe`, or the database rolled it back.

    Only time limits how often a connection may be lost: behind a pooler, connecting succeeds during an outage, too.
    """
    rolled_back = sqlstate(error) in errors.ROLLED_BACK and failures <= MAX_RETRIES
    return rolled_back or (safe and not retry_window_elapsed(began))


def disable_if_stale(connection: PoolProxiedConnection, error: Exception) -> bool:
    """Stop preparing on a connection if a stale prepared statement caused the error; return whether it did."""
    stale = sqlstate(error) in errors.STALE_STATEMENT and connection.info.get(PREPARED) is not None
    if stale:
        connection.info[PREPARED] = None
    return stale


def get_database() -> Database:
    """Return the database of the current application."""
    database: Database = current_app.extensions["database"]
    return database


def init_app(app: Flask) -> None:
    """Make the application's pool of connections; the first request connects."""
    config = app.config
    sizes = {"pool_size": config["DB_POOL_SIZE"], "max_overflow": config["DB_MAX_OVERFLOW"]}
    times = {"timeout": config["DB_POOL_TIMEOUT"], "recycle": config["DB_POOL_RECYCLE"]}
    arguments = config["SQLALCHEMY_ENGINE_OPTIONS"]["connect_args"]
    connections = Connections(make_url(config["SQLALCHEMY_DATABASE_URI"]), arguments, **sizes, **times)
    app.extensions["database"] = Database(connections, config["DB_STATEMENT_TIMEOUT"])
