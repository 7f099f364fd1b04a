"""The health blueprint: what a supervisor asks, without a token."""

import threading
import time
from pathlib import Path

from flask import Blueprint, Flask, Response, current_app

from todo_api.database import DatabaseError
from todo_api.errors import ApiError

SCHEMA = "SELECT version_num FROM alembic_version"
MAX_FAILURE_SECONDS = 5  # a failure is not remembered longer than this
PATIENCE_SECONDS = 1  # for what another request is asking already

blueprint = Blueprint("health", __name__, url_prefix="/health")


@blueprint.get("/live")
def live() -> Response:
    """Say that the process answers; nothing else is touched."""
    return Response('{"status": "ok"}', mimetype="application/json")


@blueprint.get("/ready")
def ready() -> Response:
    """Say whether requests can be answered: 503 NOT_READY when not. The log tells why, not the answer."""
    readiness: Readiness = current_app.extensions["readiness"]
    if not readiness.holds():
        raise ApiError("NOT_READY")
    return Response('{"status": "ready"}', mimetype="application/json")


class Readiness:
    """Whether the process can serve: asked at most once in `interval` seconds, a failure once in 5 at least."""

    def __init__(self, interval: int) -> None:
        self._interval = interval
        self._lock = threading.Lock()
        self._until = 0.0
        self._holds = False

    def holds(self) -> bool:
        """Return what was found last, when that was long ago what is so now."""
        if time.monotonic() >= self._until and self._lock.acquire(timeout=PATIENCE_SECONDS):
            try:
                if time.monotonic() >= self._until:
                    self._look()
            finally:
                self._lock.release()
        return self._holds

    def _look(self) -> None:
        hindrance = database_hindrance() or keys_hindrance()
        if hindrance:
            current_app.logger.error("not ready: %s", hindrance)
        self._holds = hindrance is None
        self._until = time.monotonic() + (self._interval if self._holds else min(self._interval, MAX_FAILURE_SECONDS))


def database_hindrance() -> str | None:
    try:
        found = current_app.extensions["ownership"].database.run(SCHEMA, {}, repeatable=True)
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
    keys = current_app.extensions["trust"].keys
    return "the keys that verify tokens cannot be fetched" if keys and not keys.are_usable() else None


def init_app(app: Flask) -> None:
    app.extensions["readiness"] = Readiness(app.config["READY_INTERVAL"])
    app.register_blueprint(blueprint)
