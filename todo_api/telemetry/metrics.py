"""Prometheus metrics at /metrics; no label names a user or a task.

Under gunicorn each process keeps its values in files of one folder, and the process that serves /metrics adds them up.
"""

import hmac
import os
import platform
from collections.abc import Iterator
from contextlib import suppress
from functools import cache, partial
from pathlib import Path

from flask import Blueprint, Flask, Response, current_app, request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from todo_api.auth import TokenInvalid, TokenMissing, get_key_set
from todo_api.database import get_database
from todo_api.errors import NotFound
from todo_api.serving import MULTIPROC_DIR_VARIABLE
from todo_api.telemetry.requests import RequestRecord

REGISTRY = CollectorRegistry()
counter = partial(Counter, registry=REGISTRY)
gauge_sum = partial(Gauge, registry=REGISTRY, multiprocess_mode="livesum")
gauge_max = partial(Gauge, registry=REGISTRY, multiprocess_mode="livemax")

REQUESTS = Histogram(
    "todo_api_request_duration_seconds",
    "Time to answer a request.",
    ["route", "method", "status"],
    registry=REGISTRY,
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
REFUSED_TOKENS = counter("todo_api_token_refusals", "Refused tokens, by reason.", ["reason"])
FOREIGN_TASKS = counter("todo_api_foreign_task_attempts", "Requests for another user's task; all were refused.")
IN_USE = gauge_sum("todo_api_database_connections_in_use", "Database connections that requests hold.")
WAITING = gauge_sum("todo_api_database_connections_waiting", "Requests that wait for a database connection.")
KEYS_FETCHED = gauge_max("todo_api_keys_fetched_timestamp_seconds", "When the key set was fetched; 0 without one.")
BUILD = gauge_max("todo_api_build_info", "Always 1; the labels name the versions.", ["version", "python"])

blueprint = Blueprint("metrics", __name__)


@blueprint.get("/metrics")
def metrics() -> Response:
    """Get Prometheus metrics."""
    if current_app.config["ENVIRONMENT"] != "development":
        check_token(current_app.config["METRICS_TOKEN"])
    set_gauges()
    source: Collector = AllProcesses() if MULTIPROC_DIR_VARIABLE in os.environ else REGISTRY
    return Response(generate_latest(source), content_type=CONTENT_TYPE_LATEST)


def check_token(expected: str | None) -> None:
    """Raise NotFound if no token is configured, TokenMissing or TokenInvalid for another token."""
    if expected is None:
        raise NotFound
    scheme, _, sent = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not sent:
        raise TokenMissing
    if not hmac.compare_digest(sent.encode(), expected.encode()):
        raise TokenInvalid


class AllProcesses(Collector):
    """Adds up the files of all processes.

    A worker that is killed while it makes a file leaves it empty, and MultiProcessCollector fails on an empty file
    (prometheus/client_python issue 1199, open on 2026-11-22).
    """

    def collect(self) -> Iterator[Metric]:
        files = Path(os.environ[MULTIPROC_DIR_VARIABLE]).glob("*.db")
        filled = [str(file) for file in files if is_filled(file)]
        yield from MultiProcessCollector.merge(filled)  # type: ignore[no-untyped-call]  # it has no types


def is_filled(file: Path) -> bool:
    with suppress(FileNotFoundError):  # the gauges of a worker are deleted when it ends
        return file.stat().st_size > 0
    return False


@cache  # saves 3 µs a request
def timer(route: str, method: str, status: int) -> Histogram:
    return REQUESTS.labels(route, method, status)


def count(record: RequestRecord) -> None:
    """Count a request, and its refused token or attempt on a foreign task."""
    timer(record.route, record.method, record.status).observe(record.seconds)
    if record.foreign_task:
        FOREIGN_TASKS.inc()
    if record.refusal:
        REFUSED_TOKENS.labels(record.refusal).inc()


def set_gauges() -> None:
    """Set the gauges of this process to the current values."""
    connections, keys = get_database().connections, get_key_set()
    IN_USE.set(connections.in_use())
    WAITING.set(connections.waiting())
    KEYS_FETCHED.set(keys.fetched_at() if keys else 0)


def init_app(app: Flask) -> None:
    BUILD.labels(app.config["VERSION"], platform.python_version()).set(1)
    app.register_blueprint(blueprint)
