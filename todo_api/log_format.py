"""The formats of the log, gunicorn's own lines included: JSON, or text in development.

This module does not import Flask, because gunicorn's master process imports it.
"""

import json
import logging
import time
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


def timestamp(seconds: float) -> str:
    """Return a Unix time as RFC 3339 in UTC with milliseconds."""
    return f"{datetime.fromtimestamp(seconds, UTC).isoformat(timespec='milliseconds')[:-6]}Z"


def formatter(environment: str | None) -> logging.Formatter:
    return text_formatter() if environment == "development" else JSONFormatter()


def text_formatter() -> logging.Formatter:
    """Return a formatter for reading, with the time as in JSON."""
    text = logging.Formatter(TEXT, defaults={"request_id": "-"})
    text.converter = time.gmtime
    text.default_time_format, text.default_msec_format = "%Y-%m-%dT%H:%M:%S", "%s.%03dZ"
    return text
