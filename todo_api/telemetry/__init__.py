"""Telemetry: the log, the metrics and the health checks."""

from todo_api.extensions import TaskAPI
from todo_api.telemetry import health, logging, metrics, requests
from todo_api.telemetry.requests import TOOL

__all__ = ["TOOL", "init_app"]


def init_app(app: TaskAPI) -> None:
    """Log and measure every request, and serve /health and /metrics."""
    for module in (logging, requests, health, metrics):
        module.init_app(app)
