"""Health checks for a supervisor or load balancer, without a token."""

import logging
import threading
import time
from collections.abc import Callable
from functools import cache, lru_cache

from flask import Blueprint, Flask, Response, current_app
from sqlalchemy import literal_column, select, text

from todo_api.auth import get_key_set
from todo_api.database import READ_ONLY, Database, DatabaseError, Statement, get_database
from todo_api.errors import Unavailable
from todo_api.extensions import MIGRATIONS
from todo_api.models import User
from todo_api.responses import JSONResponse

logger = logging.getLogger(__name__)

REVISIONS = Statement(text("SELECT version_num FROM alembic_version"), repeatable=True)
ENCODING = Statement(text("SELECT current_setting('server_encoding')"), repeatable=True)
# A server that only reads refuses to lock even no row, and the connection to it is replaced.
LOCK = Statement(
    select(User.id).where(User.id == literal_column("''")).with_for_update(read=True, key_share=True), repeatable=True
)
RETRY_INTERVAL = 5  # seconds; a failed check runs again after this at the latest
KEYS_INTERVAL = 5  # seconds; the check of the keys is cheap unless they are missing
CHECK_TIMEOUT = 1  # seconds to wait for a check that another request is running

blueprint = Blueprint("health", __name__, url_prefix="/health")


class WrongEncoding(Exception):
    """The database's text is not UTF8; the argument is its encoding."""


class NotReady(Unavailable):
    error_code, detail = "NOT_READY", "The service is not ready to answer requests."


@blueprint.get("/live")
def live() -> Response:
    """Answer 200 while the process runs; nothing is checked."""
    return JSONResponse('{"status": "ok"}')


@blueprint.get("")
@blueprint.get("/ready")
def ready() -> Response:
    """Answer 200 if requests can be answered, else 503 NOT_READY. Only the log has the reason."""
    checks: tuple[CachedCheck, ...] = current_app.extensions["readiness"]
    if not all(check.passes() for check in checks):
        raise NotReady
    return JSONResponse('{"status": "ready"}')


class CachedCheck:
    """A check that runs at most once in `interval` seconds. `check` returns what is wrong, or None."""

    def __init__(self, check: Callable[[], str | None], interval: int) -> None:
        self._check = check
        self._interval = interval
        self._lock = threading.Lock()
        self._next = 0.0
        self._passed = False

    def passes(self) -> bool:
        """Return the last result, or a new one if it is too old."""
        if time.monotonic() >= self._next and self._lock.acquire(timeout=CHECK_TIMEOUT):
            try:
                if time.monotonic() >= self._next:
                    self._run()
            finally:
                self._lock.release()
        return self._passed

    def _run(self) -> None:
        problem = self._check()
        if problem:
            logger.error("not ready: %s", problem)
        self._passed = problem is None
        self._next = time.monotonic() + (self._interval if self._passed else min(self._interval, RETRY_INTERVAL))


def check_database() -> str | None:
    """Return why the database is not ready, or None. A revision that this code does not know is newer, and ready."""
    database = get_database()
    try:
        check_encoding(database)
        found = [row[0].decode() for row in database.fetch(REVISIONS, {})]
    except WrongEncoding as error:
        return f"the encoding of the database is {error}, and must be UTF8"
    except DatabaseError as error:
        return f"the database does not answer, or has no schema yet (flask db upgrade): {error}"
    known = revisions()
    if {*known}.issuperset(found) and known[-1] not in found:
        return f"the database is at revision {', '.join(found) or 'none'}, the code needs a later one: flask db upgrade"
    return check_writes(database)


def check_writes(database: Database) -> str | None:
    """Return why the database takes no writes, or None. A lock that is not had in time is no reason."""
    try:
        database.fetch(LOCK, {})
    except DatabaseError as error:
        return f"the database only reads: {error}" if error.code == READ_ONLY else None
    return None


@lru_cache(maxsize=1)
def check_encoding(database: Database) -> None:
    """Raise WrongEncoding unless it is UTF8. An exception is not cached: this asks until it is."""
    if not database.is_sqlite and (encoding := database.fetch(ENCODING, {})[0][0].decode()) != "UTF8":
        raise WrongEncoding(encoding)


@cache
def revisions() -> list[str]:
    """Return all revisions of the code, the oldest first. The names of their files tell: Alembic takes 4 MiB."""
    return sorted(path.name.partition("_")[0] for path in MIGRATIONS.glob("versions/*.py"))


def check_keys() -> str | None:
    keys = get_key_set()
    return "the keys that verify tokens cannot be fetched" if keys and not keys.is_usable() else None


def init_app(app: Flask) -> None:
    database = CachedCheck(check_database, app.config["READY_INTERVAL"])
    app.extensions["readiness"] = (database, CachedCheck(check_keys, KEYS_INTERVAL))
    app.register_blueprint(blueprint)
