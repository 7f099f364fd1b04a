"""Health checks for a supervisor or load balancer, without a token."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from flask import Blueprint, Flask, Response, current_app
from sqlalchemy import text

from todo_api.auth import get_key_set
from todo_api.database import DatabaseError, Statement, get_database
from todo_api.errors import Unavailable

logger = logging.getLogger(__name__)

REVISIONS = Statement(text("SELECT version_num FROM alembic_version"), repeatable=True)
MAX_FAILURE_SECONDS = 5  # a failure is checked again after this at the latest
KEYS_INTERVAL = 5  # cheap unless keys are missing
CHECK_TIMEOUT = 1  # for a check that another request is running


class NotReady(Unavailable):
    error_code, detail = "NOT_READY", "The service is not ready to answer requests."


blueprint = Blueprint("health", __name__, url_prefix="/health")


@blueprint.get("/live")
def live() -> Response:
    """Answer 200 while the process runs; nothing is checked."""
    return Response('{"status": "ok"}', mimetype="application/json")


@blueprint.get("/ready")
def ready() -> Response:
    """Answer 200 if requests can be answered, else 503 NOT_READY. The reason is in the log only."""
    checks: tuple[CachedCheck, ...] = current_app.extensions["readiness"]
    if not all(check.passes() for check in checks):
        raise NotReady
    return Response('{"status": "ready"}', mimetype="application/json")


class CachedCheck:
    """A check that runs at most once in `interval` seconds, after a failure once in 5 seconds.

    `check` returns what is wrong, or None.
    """

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
        self._next = time.monotonic() + (self._interval if self._passed else min(self._interval, MAX_FAILURE_SECONDS))


def check_database() -> str | None:
    try:
        found = [row[0] for row in get_database().fetch(REVISIONS, {})]
    except DatabaseError as error:
        return f"the database does not answer, or has no schema yet (flask db upgrade): {error}"
    if is_behind(found):
        return f"the database is at revision {', '.join(found) or 'none'}, the code needs a later one: flask db upgrade"
    return None


def is_behind(found: list[str]) -> bool:
    """Return whether the schema lacks a revision of this code. Unknown revisions are newer and accepted."""
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(Path(current_app.root_path).parent / "migrations"))
    known = {script.revision for script in scripts.walk_revisions()}
    return set(found) <= known and scripts.get_current_head() not in found


def check_keys() -> str | None:
    keys = get_key_set()
    return "the keys that verify tokens cannot be fetched" if keys and not keys.is_usable() else None


def init_app(app: Flask) -> None:
    database = CachedCheck(check_database, app.config["READY_INTERVAL"])
    app.extensions["readiness"] = (database, CachedCheck(check_keys, KEYS_INTERVAL))
    app.register_blueprint(blueprint)
