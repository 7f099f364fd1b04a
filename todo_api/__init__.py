"""The task API: a REST service that keeps each user's tasks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

__version__ = "0.1.0"


def create_app(environ: Mapping[str, str] | None = None, instance: Path | None = None) -> Flask:
    """Make the application from environment variables (the process's own by default). Raises config.ConfigError."""
    # Not above: gunicorn's master process reads this package too, for the log and its worker, and saves 38 MiB.
    from todo_api import auth, cli, config, cors, database, errors, mcp, openapi, tasks, telemetry
    from todo_api.extensions import TaskAPI, bind_migrate, db

    app = TaskAPI(__name__, instance_path=str(instance.absolute()) if instance else None, static_folder=None)
    app.url_map.merge_slashes = False  # an unknown path is 404, not a redirect
    settings = config.read(config.environment() if environ is None else environ, Path(app.instance_path))
    app.config.update(settings, VERSION=__version__)
    database.init_app(app)
    telemetry.init_app(app)
    errors.init_app(app)
    db.init_app(app)
    bind_migrate(app)
    auth.init_app(app)
    cors.init_app(app)
    tasks.init_app(app)
    openapi.init_app(app)
    mcp.init_app(app)
    cli.init_app(app)
    return app
