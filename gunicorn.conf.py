"""Settings of gunicorn, which finds this file by itself."""

import os
import select
from typing import Any

from todo_api.serving import free_slot, startup

startup.check()

# Two workers of four threads have the best tail latency of the worker classes measured (p95 of 1000 connections:
# 400 ms, gevent 3511); more threads gained nothing. A bare route takes 135 µs on the polling worker, 255 on gthread.
workers = int(os.environ.get("WEB_CONCURRENCY") or 2)
threads = int(os.environ.get("WEB_THREADS") or 4)
# Where there is no epoll, as on macOS, gunicorn's own worker serves: for development.
worker_class = "todo_api.serving.worker.PollingWorker" if hasattr(select, "epoll") else "gthread"
worker_connections = 5000  # of each worker; an idle one costs some 10 KiB
logger_class = "todo_api.serving.logger.ServerLogger"
limit_request_field_size = 33 * 1024  # bytes of a header line: up to 32 KiB of cookies, which are ignored
keepalive = 75  # longer than nginx keeps its connections to it (60 s), so nginx closes first
graceful_timeout = 30
# No header of a proxy is trusted. "*" skips the check of the sender's address, which saves 6 µs a request; with no
# trusted headers it has no other effect.
forwarder_headers = ""
secure_scheme_headers: dict[str, str] = {}
forwarded_allow_ips = "*"
control_socket_disable = True


def when_ready(server: Any) -> None:
    startup.check_before_reload(server)


def pre_fork(server: Any, worker: Any) -> None:
    others = server.WORKERS.values()
    worker.slot = free_slot(other.slot for other in others)
    worker.processor = startup.choose_processor(server.num_workers, (other.processor for other in others))


def post_fork(server: Any, worker: Any) -> None:
    startup.let_worker_stop(server)
    startup.stay_on(worker.processor)


def post_worker_init(worker: Any) -> None:
    log, metrics = (worker.wsgi.extensions[name] for name in ("log", "metrics"))
    metrics.use(worker.slot)
    log.start()
    worker.log.use_queue(log)


def worker_exit(_server: Any, worker: Any) -> None:
    if hasattr(worker, "wsgi"):  # else it did not get as far as serving
        worker.wsgi.extensions["log"].stop()


def child_exit(_server: Any, worker: Any) -> None:
    """Take the gauges of a worker that has ended out of the sums; its counters stay."""
    if worker.slot:
        worker.slot.release()
