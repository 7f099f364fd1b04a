"""Telemetry: the log, the metrics and the health checks."""

from flask import Flask

from todo_api.telemetry import health, logging, metrics, requests
from todo_api.telemetry.requests import REQUEST_ID_PATTERN, route_template

__all__ = ["REQUEST_ID_PATTERN", "init_app", "route_template"]


def init_app(app: Flask) -> None:
    """Log and measure every request, and serve /health and /metrics."""
    for module in (logging, requests, health, metrics):
        module.init_app(app)
