"""Prometheus metrics at /metrics; no label names a user or a task.

Each process counts in its own memory, and publishes a snapshot that the process that serves /metrics reads.
"""

import hmac
import json
import platform
from bisect import bisect_left
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import accumulate
from operator import add
from threading import Lock
from typing import Any, NamedTuple

from flask import Blueprint, Flask, Response, current_app, request
from prometheus_client import CONTENT_TYPE_LATEST, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from todo_api.auth import TokenInvalid, TokenMissing, get_key_set
from todo_api.database import get_database
from todo_api.errors import NotFound
from todo_api.serving import SLOTS, NotKept, Slot
from todo_api.telemetry.requests import RequestRecord

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds
LIMITS = (*map(str, BUCKETS), "+Inf")
REQUESTS = "todo_api_request_duration_seconds"
REFUSED_TOKENS = "todo_api_token_refusals"
FOREIGN_TASKS = "todo_api_foreign_task_attempts"
TOOL_CALLS = "todo_api_tool_calls"
IN_USE = "todo_api_database_connections_in_use"
WAITING = "todo_api_database_connections_waiting"
KEYS_FETCHED = "todo_api_keys_fetched_timestamp_seconds"
BUILD = "todo_api_build_info"


class Definition(NamedTuple):
    family: Callable[..., Any]
    help: str
    labels: tuple[str, ...] = ()
    length: int = 1  # how many numbers there are for each combination of labels
    combine: Callable[[float, float], float] = add  # the numbers of two processes


METRICS = {
    REQUESTS: Definition(
        HistogramMetricFamily,
        "Time to answer a request.",
        ("route", "method", "status"),
        len(LIMITS) + 1,  # the requests in each bucket, and the sum of their seconds
    ),
    REFUSED_TOKENS: Definition(CounterMetricFamily, "Refused tokens, by reason.", ("reason",)),
    FOREIGN_TASKS: Definition(CounterMetricFamily, "Requests for another user's task; all were refused."),
    TOOL_CALLS: Definition(CounterMetricFamily, "Calls of MCP tools, by tool and outcome.", ("tool", "outcome")),
    IN_USE: Definition(GaugeMetricFamily, "Database connections that requests hold."),
    WAITING: Definition(GaugeMetricFamily, "Requests that wait for a database connection."),
    KEYS_FETCHED: Definition(GaugeMetricFamily, "When the key set was fetched; 0 without one.", combine=max),
    BUILD: Definition(GaugeMetricFamily, "Always 1; the labels name the versions.", ("version", "python"), combine=max),
}
Numbers = dict[tuple[str, ...], list[float]]  # by the name of the metric and the values of its labels

blueprint = Blueprint("metrics", __name__)


@blueprint.get("/metrics")
def metrics() -> Response:
    """Get Prometheus metrics."""
    if current_app.config["ENVIRONMENT"] != "development":
        check_token(current_app.config["METRICS_TOKEN"])
    with suppress(NotKept):  # the log says so; the metrics of the other processes are shown
        current_app.extensions["metrics"].publish()
    return Response(generate_latest(AllProcesses()), content_type=CONTENT_TYPE_LATEST)


def check_token(expected: str | None) -> None:
    """Raise NotFound if no token is configured, TokenMissing or TokenInvalid for another token."""
    if expected is None:
        raise NotFound
    scheme, _, sent = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not sent:
        raise TokenMissing
    if not hmac.compare_digest(sent.encode(), expected.encode()):
        raise TokenInvalid


class Metrics:
    """The numbers of this process. Only the log's thread counts."""

    def __init__(self, version: str) -> None:
        self._build = (BUILD, version, platform.python_version())
        self._slot: Slot | None = SLOTS[0]
        self._numbers: Numbers = {}
        self._publishing = Lock()

    def use(self, slot: Slot | None) -> None:
        """Continue the counts of the worker that had this slot before, so that none is lost."""
        self._slot = slot
        self._numbers = numbers_of(slot) if slot else {}

    def count(self, record: RequestRecord) -> None:
        """Count a request, and its tool, refused token or attempt on a foreign task."""
        times = self._numbers_of(REQUESTS, record.route, record.method, str(record.status))
        times[bisect_left(BUCKETS, record.seconds)] += 1
        times[-1] += record.seconds
        if record.foreign_task:
            self._numbers_of(FOREIGN_TASKS)[0] += 1
        if record.tool:
            self._numbers_of(TOOL_CALLS, record.tool, record.error_code or "OK")[0] += 1
        if record.refusal:
            self._numbers_of(REFUSED_TOKENS, record.refusal)[0] += 1

    def publish(self) -> None:
        """Show the current numbers to all processes. Raises NotKept."""
        if not self._slot:
            raise NotKept("Too many workers run at the same time: this one has no metrics")
        with self._publishing:
            self._set_gauges()
            self._slot.write(json.dumps(list(self._numbers.items()), separators=(",", ":")).encode())

    def _set_gauges(self) -> None:
        connections, keys = get_database().connections, get_key_set()
        self._numbers_of(IN_USE)[0] = connections.in_use()
        self._numbers_of(WAITING)[0] = connections.waiting()
        self._numbers_of(KEYS_FETCHED)[0] = keys.fetched_at() if keys else 0
        self._numbers_of(*self._build)[0] = 1
        self._numbers_of(FOREIGN_TASKS)  # it is shown before the first attempt, too

    def _numbers_of(self, name: str, *labels: str) -> list[float]:
        return self._numbers.setdefault((name, *labels), [0] * METRICS[name].length)


class AllProcesses(Collector):
    """Combines the snapshots of all processes."""

    def collect(self) -> Iterable[Metric]:
        totals: Numbers = {}
        for slot in SLOTS:
            for key, numbers in numbers_of(slot).items():
                totals[key] = list(map(METRICS[key[0]].combine, numbers, totals.get(key, [0] * len(numbers))))
        families = {name: metric.family(name, metric.help, labels=metric.labels) for name, metric in METRICS.items()}
        for (name, *labels), numbers in totals.items():
            if name == REQUESTS:
                buckets = list(zip(LIMITS, accumulate(numbers[:-1]), strict=True))
                families[name].add_metric(labels, buckets, numbers[-1])
            else:
                families[name].add_metric(labels, numbers[0])
        return families.values()


def numbers_of(slot: Slot) -> Numbers:
    """Return the numbers in a slot: without the gauges of a worker that has ended, and without what is unknown."""
    found: Numbers = {tuple(key): numbers for key, numbers in json.loads(slot.read() or b"[]")}
    return {key: numbers for key, numbers in found.items() if is_known(key, numbers, is_live=slot.is_live)}


def is_known(key: tuple[str, ...], numbers: list[float], *, is_live: bool) -> bool:
    """Tell whether this release, after a reload of another, can use the numbers."""
    metric = METRICS.get(key[0])
    if not metric or (metric.family is GaugeMetricFamily and not is_live):
        return False
    return (len(metric.labels), metric.length) == (len(key) - 1, len(numbers))


def init_app(app: Flask) -> None:
    app.extensions["metrics"] = Metrics(app.config["VERSION"])
    app.register_blueprint(blueprint)
