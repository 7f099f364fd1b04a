"""How gunicorn serves the application; gunicorn reads this file by itself."""

import atexit
import os
import select
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

CHECKED = "TODO_API_CHECKED_BY"  # the process that has tried the settings: the workers need not say it all again
TRIAL = f"import os, runpy, wsgi; os.environ[{CHECKED!r}] = str(os.getpid()); runpy.run_path('gunicorn.conf.py')"
METRICS = "PROMETHEUS_MULTIPROC_DIR"  # where the workers keep their figures: prometheus_client reads it


def application_starts() -> bool:
    """Try settings, code and this file in a process of their own; what is wrong is printed there."""
    env = {name: value for name, value in os.environ.items() if name not in (CHECKED, METRICS)}
    return (
        subprocess.run([sys.executable, "-c", TRIAL], cwd=Path(__file__).parent, env=env, check=False).returncode == 0
    )


def remove_metrics(folder: str, master: int) -> None:
    """Take the folder away when the process that made it ends; the workers inherit this call."""
    if os.getpid() == master:
        shutil.rmtree(folder, ignore_errors=True)


if os.environ.get(CHECKED) != str(os.getpid()):
    if not application_starts():
        sys.exit(1)
    os.environ[CHECKED] = str(os.getpid())
    os.environ[METRICS] = mkdtemp(prefix="todo-api-metrics-")
    atexit.register(remove_metrics, os.environ[METRICS], os.getpid())

# Two workers of four threads: the best tail latency of the worker classes measured (p95 of 1000 connections: 529 ms,
# gevent 3511); more threads gained nothing. Threads that poll for themselves save 80 us of CPU a request, of 490.
workers = int(os.environ.get("WEB_CONCURRENCY") or 2)
threads = int(os.environ.get("WEB_THREADS") or 4)
worker_class = "todo_api.serving.worker.PollingWorker" if hasattr(select, "epoll") else "gthread"
worker_connections = 5000  # of each worker; an idle one costs some 10 KiB
logger_class = "todo_api.log_format.ServerLogger"
keepalive = 75  # as long as nginx keeps its own connections; the proxy closes first
graceful_timeout = 30
# No header of a proxy is believed, whoever sends it. So there is no need to look who sent it: 6 us a request.
forwarder_headers = ""
secure_scheme_headers: dict[str, str] = {}
forwarded_allow_ips = "*"
control_socket_disable = True


def when_ready(server: Any) -> None:
    """Let a reload (SIGHUP) with a bad setting leave the old workers alone."""
    reload = server.reload

    def reload_if_it_starts() -> None:
        if application_starts():
            reload()
        else:
            server.log.error("Not reloaded: the application does not start; the old workers go on serving.")

    server.reload = reload_if_it_starts


def post_worker_init(worker: Any) -> None:
    """Let each worker write its log and figures from a thread."""
    from todo_api.telemetry.metrics import set_gauges

    worker.wsgi.extensions["reporter"].keep_reporting(partial(set_gauges, worker.wsgi))


def worker_exit(_server: Any, worker: Any) -> None:
    """Write what a worker has not written yet; one that did not get as far as serving has nothing."""
    if hasattr(worker, "wsgi"):
        worker.wsgi.extensions["reporter"].flush()


def child_exit(_server: Any, worker: Any) -> None:
    """Take the gauges of a worker that has ended out of the sums; its counters stay."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]  # prometheus_client has no types here
