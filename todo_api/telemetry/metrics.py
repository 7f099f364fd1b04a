"""What is counted and measured, for Prometheus at /metrics; no label names a user or a task.

Under gunicorn each process keeps its figures in a file (PROMETHEUS_MULTIPROC_DIR, which gunicorn.conf.py sets), and
whichever is asked adds them up.
"""

import hmac
import os
import platform
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

from flask import Blueprint, Flask, Response, current_app, request
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from todo_api import __version__
from todo_api.auth import TokenInvalid, TokenMissing, get_key_set
from todo_api.errors import NotFound

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

OWN = CollectorRegistry()
REQUESTS = Histogram(
    "todo_api_request_duration_seconds",
    "Time from the request's head to its answer, by route template, method and status.",
    ["route", "method", "status"],
    buckets=BUCKETS,
    registry=OWN,
)
REFUSED_TOKENS = Counter("todo_api_token_refusals", "Tokens that were refused, by reason.", ["reason"], registry=OWN)
FOREIGN_TASKS = Counter(
    "todo_api_foreign_task_attempts", "Requests for a task of another user; none was let through.", registry=OWN
)
IN_USE = Gauge(
    "todo_api_database_connections_in_use",
    "Connections that requests hold at this moment.",
    registry=OWN,
    multiprocess_mode="livesum",
)
WAITING = Gauge(
    "todo_api_database_connections_waiting",
    "Requests that wait for a connection at this moment.",
    registry=OWN,
    multiprocess_mode="livesum",
)
KEYS_FETCHED = Gauge(
    "todo_api_keys_fetched_timestamp_seconds",
    "When the key set in use was fetched, in seconds since 1970; 0 without one.",
    registry=OWN,
    multiprocess_mode="livemax",
)
BUILD = Gauge(
    "todo_api_build_info",
    "1; its labels tell what runs.",
    ["version", "python"],
    registry=OWN,
    multiprocess_mode="livemax",
)

blueprint = Blueprint("metrics", __name__)


@cache  # saves 3 us a request
def timer(route: str, method: str, status: int) -> Histogram:
    return REQUESTS.labels(route, method, status)


@blueprint.get("/metrics")
def metrics() -> Response:
    """Answer in Prometheus' text format, in development to all, otherwise to who has METRICS_TOKEN."""
    if current_app.config["ENVIRONMENT"] != "development":
        refuse_strangers(current_app.config["METRICS_TOKEN"])
    registry = OWN
    if is_multiprocess():
        registry = CollectorRegistry()
        registry.register(AllProcesses())
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


class AllProcesses(Collector):
    """Adds up the files of all processes, but for empty ones.

    A worker makes its file before it fills it, and one that is killed in between leaves it for good; the library's own
    collector then fails (prometheus/client_python, issue 1199, open on 2026-11-22).
    """

    def collect(self) -> Iterable[Metric]:
        files = [str(file) for file in Path(os.environ[FOLDER]).glob("*.db") if is_filled(file)]
        found: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]  # prometheus_client has no types here
        return found


def is_filled(file: Path) -> bool:
    try:
        return file.stat().st_size > 0
    except FileNotFoundError:  # a worker that ends takes its gauges with it
        return False


def refuse_strangers(token: str | None) -> None:
    if token is None:
        raise NotFound
    scheme, _, sent = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not sent:
        raise TokenMissing
    if not hmac.compare_digest(sent.encode(), token.encode()):
        raise TokenInvalid


def is_multiprocess() -> bool:
    return FOLDER in os.environ


def set_gauges(app: Flask) -> None:
    """Let the gauges of this process show what is so now: when it comes to it, another process may be asked."""
    for gauge, value in app.extensions["metrics"].items():
        gauge.set(value())


def init_app(app: Flask) -> None:
    """Serve /metrics and find what the gauges show."""
    with app.app_context():
        database, keys = app.extensions["database"].connections, get_key_set()
    gauges: dict[Gauge, Callable[[], float]] = {IN_USE: database.in_use, WAITING: database.waiting}
    if keys:
        gauges[KEYS_FETCHED] = keys.fetched_at
    app.extensions["metrics"] = gauges
    if not is_multiprocess():
        for gauge, value in gauges.items():
            gauge.set_function(value)
    BUILD.labels(__version__, platform.python_version()).set(1)
    app.register_blueprint(blueprint)
