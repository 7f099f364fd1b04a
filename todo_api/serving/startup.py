"""Checks that the application starts, before gunicorn starts it and before each reload; and where its workers run."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from types import FrameType
from typing import Any

from todo_api.log_stream import BoundedStream

# Holds the id of the process that was checked. Its workers do not repeat the warnings of the check.
CHECKED_BY_VARIABLE = "TODO_API_CHECKED_BY"
CHECK = (
    f"import os, runpy, wsgi; os.environ[{CHECKED_BY_VARIABLE!r}] = str(os.getpid()); "
    "runpy.run_path('gunicorn.conf.py')"
)


def application_starts() -> bool:
    """Start the application in a process of its own, and print what is wrong."""
    env = {name: value for name, value in os.environ.items() if name != CHECKED_BY_VARIABLE}
    command = [sys.executable, "-c", CHECK]
    ended = subprocess.run(command, env=env, stderr=subprocess.PIPE, errors="replace", check=False)
    BoundedStream().write(ended.stderr)
    return ended.returncode == 0


def check() -> None:
    """Exit unless the application starts. A process is checked once, although a reload calls this again."""
    process = str(os.getpid())
    if os.environ.get(CHECKED_BY_VARIABLE) != process:
        # Process 1 of a container ignores signals that it does not handle. Later gunicorn sets its own handlers.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        if not application_starts():
            sys.exit(1)
        os.environ[CHECKED_BY_VARIABLE] = process


def let_worker_stop(server: Any) -> None:
    """Let SIGTERM end a worker that is starting. It has inherited handlers that keep signals for the master."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    while not server.SIG_QUEUE.empty():
        if server.SIG_QUEUE.get() == signal.SIGTERM:
            sys.exit(0)


def choose_processor(workers: int, taken: Iterable[int | None]) -> int | None:
    """Return the processor with the fewest workers, if `workers` can share all of them out evenly.

    `taken` are those of the workers that run. Only Linux tells which processors a process may use.
    """
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(allowed) < 2 or workers % len(allowed):
        return None
    counted = Counter(taken)
    return min(allowed, key=lambda one: counted[one])


def stay_on(processor: int | None) -> None:
    """Keep a worker's threads on one processor.

    Only one thread at a time runs Python. On several processors they wake up to wait for each other, which takes 5 to
    10 % of a request's CPU.
    """
    with suppress(OSError):  # whoever starts the service may not allow it
        if processor is not None:
            os.sched_setaffinity(0, {processor})


def check_before_reload(server: Any) -> None:
    """Ignore SIGHUP if the application would not start: gunicorn would exit, and no hook of it prevents that."""
    reload: Any = signal.getsignal(signal.SIGHUP)

    def reload_if_it_starts(number: int, frame: FrameType | None) -> None:
        if application_starts():
            reload(number, frame)
        else:
            server.log.error("Not reloaded: the application does not start; the old workers go on serving.")

    signal.signal(signal.SIGHUP, reload_if_it_starts)
