"""The health blueprint: what a supervisor asks, without a token."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

from flask import Blueprint, Flask, Response, current_app
from sqlalchemy import text

from todo_api.auth import get_key_set
from todo_api.database import DatabaseError, Statement, get_database
from todo_api.errors import Unavailable

SCHEMA = Statement(text("SELECT version_num FROM alembic_version"), repeatable=True)
MAX_FAILURE_SECONDS = 5  # a failure is not remembered longer than this
KEYS_SECONDS = 5  # keys at hand cost nothing to look at, and there is one fetch in 5 seconds
PATIENCE_SECONDS = 1  # for what another request is asking already


class NotReady(Unavailable):
    error_code = "NOT_READY"
    detail = "The service is not ready to answer requests."


blueprint = Blueprint("health", __name__, url_prefix="/health")


@blueprint.get("/live")
def live() -> Response:
    """Say that the process answers; nothing else is touched."""
    return Response('{"status": "ok"}', mimetype="application/json")


@blueprint.get("/ready")
def ready() -> Response:
    """Say whether requests can be answered: 503 NOT_READY when not. The log tells why, not the answer."""
    answers: tuple[Answer, ...] = current_app.extensions["readiness"]
    if not all(answer.is_good() for answer in answers):
        raise NotReady
    return Response('{"status": "ready"}', mimetype="application/json")


class Answer:
    """What a question was answered with: None when all is well. Asked at most once in `interval` seconds.

    A bad answer is not kept longer than 5 seconds.
    """

    def __init__(self, question: Callable[[], str | None], interval: int) -> None:
        self._ask = question
        self._interval = interval
        self._lock = threading.Lock()
        self._until = 0.0
        self._is_good = False

    def is_good(self) -> bool:
        """Return what was found last, when that was long ago what is so now."""
        if time.monotonic() >= self._until and self._lock.acquire(timeout=PATIENCE_SECONDS):
            try:
                if time.monotonic() >= self._until:
                    self._renew()
            finally:
                self._lock.release()
        return self._is_good

    def _renew(self) -> None:
        hindrance = self._ask()
        if hindrance:
            current_app.logger.error("not ready: %s", hindrance)
        self._is_good = hindrance is None
        self._until = time.monotonic() + (self._interval if self._is_good else min(self._interval, MAX_FAILURE_SECONDS))


def database_hindrance() -> str | None:
    try:
        found = [row[0] for row in get_database().fetch(SCHEMA, {})]
    except DatabaseError as error:
        return f"the database does not answer, or has no schema yet (flask db upgrade): {error}"
    if is_behind(found):
        return f"the database is at revision {', '.join(found) or 'none'}, the code needs a later one: flask db upgrade"
    return None


def is_behind(found: list[str]) -> bool:
    """Tell whether a schema at these revisions lacks one of this code's; a revision unknown here is a newer one."""
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(Path(current_app.root_path).parent / "migrations"))
    known = {script.revision for script in scripts.walk_revisions()}
    return set(found) <= known and scripts.get_current_head() not in found


def keys_hindrance() -> str | None:
    keys = get_key_set()
    return "the keys that verify tokens cannot be fetched" if keys and not keys.is_usable() else None


def init_app(app: Flask) -> None:
    database, keys = Answer(database_hindrance, app.config["READY_INTERVAL"]), Answer(keys_hindrance, KEYS_SECONDS)
    app.extensions["readiness"] = (database, keys)
    app.register_blueprint(blueprint)
