"""Checks that the application starts, before gunicorn starts it and before each reload."""

import os
import signal
import subprocess
import sys
from types import FrameType
from typing import Any

from todo_api.serving import MULTIPROC_DIR_VARIABLE

# Holds the id of the process that ran the check; its workers do not warn again.
CHECKED_BY_VARIABLE = "TODO_API_CHECKED_BY"
CHECK = (
    f"import os, runpy, wsgi; os.environ[{CHECKED_BY_VARIABLE!r}] = str(os.getpid()); "
    "runpy.run_path('gunicorn.conf.py')"
)


def application_starts() -> bool:
    """Start the application once in a process of its own, which prints what is wrong."""
    env = {
        name: value for name, value in os.environ.items() if name not in (CHECKED_BY_VARIABLE, MULTIPROC_DIR_VARIABLE)
    }
    return subprocess.run([sys.executable, "-c", CHECK], env=env, check=False).returncode == 0  # noqa: S603 (ours)


def check() -> None:
    """Exit unless the application starts; a process that has been checked is not checked again."""
    if os.environ.get(CHECKED_BY_VARIABLE) != str(os.getpid()):
        if not application_starts():
            sys.exit(1)
        os.environ[CHECKED_BY_VARIABLE] = str(os.getpid())


def check_before_reload(server: Any) -> None:
    """Ignore SIGHUP while the application does not start, so that the old workers go on serving.

    A broken configuration file makes gunicorn exit on reload, and no hook prevents that.
    """
    reload: Any = signal.getsignal(signal.SIGHUP)

    def reload_if_it_starts(number: int, frame: FrameType | None) -> None:
        if application_starts():
            reload(number, frame)
        else:
            server.log.error("Not reloaded: the application does not start; the old workers go on serving.")

    signal.signal(signal.SIGHUP, reload_if_it_starts)
