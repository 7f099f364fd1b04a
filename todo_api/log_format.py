"""The formats of the log, gunicorn's own lines included: JSON, or text in development.

This module does not import Flask, because gunicorn's master process imports it.
"""

import json
import logging
from datetime import UTC, datetime

TEXT = "%(asctime)s %(levelname)s [%(request_id)s] %(name)s: %(message)s"


class JSONFormatter(logging.Formatter):
    """Formats a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": timestamp(record.created),
            "level": record.levelname,
            "logger": record.name,
            "request_id": getattr(record, "request_id", None),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, separators=(",", ":"))


class TextFormatter(logging.Formatter):
    """Formats a record for reading, with the time as in JSON."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 (logging's name)
        return timestamp(record.created)


def timestamp(seconds: float) -> str:
    """Return a Unix time as RFC 3339 in UTC with milliseconds."""
    return f"{datetime.fromtimestamp(seconds, UTC).isoformat(timespec='milliseconds')[:-6]}Z"


def formatter(environment: str | None) -> logging.Formatter:
    if environment == "development":
        return TextFormatter(TEXT, defaults={"request_id": "-"})
    return JSONFormatter()
