"""How lines of the log look, gunicorn's own included: JSON in production, text for a developer's eyes.

Nothing of Flask is imported here, for gunicorn's master process reads this too.
"""

import json
import logging
import os
import re
from datetime import UTC, datetime
from typing import Any

from gunicorn.glogging import Logger

TEXT = "%(asctime)s %(levelname)s [%(request_id)s] %(name)s: %(message)s"
# gunicorn names the fault before it quotes what the client sent: a token may be in that, or a search.
UNQUOTED = re.compile(r"Invalid request from ip=\S*: [A-Za-z ]*|Error handling request")


class JSONFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, request_id, message, and the traceback of an exception."""

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
    """A line for a developer's eyes, with the time as JSON lines have it."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 (the name is of logging)
        return timestamp(record.created)


def timestamp(seconds: float) -> str:
    """Return a time since 1970 as RFC 3339 has it, in UTC with milliseconds."""
    return f"{datetime.fromtimestamp(seconds, UTC).isoformat(timespec='milliseconds')[:-6]}Z"


def formatter(environment: str | None) -> logging.Formatter:
    if environment == "development":
        return TextFormatter(TEXT, defaults={"request_id": "-"})
    return JSONFormatter()


class WithoutRequests(logging.Filter):
    """Takes out of gunicorn's lines what they quote of a request."""

    def filter(self, record: logging.LogRecord) -> bool:
        if quoting := UNQUOTED.match(str(record.msg)):
            record.msg, record.args = quoting[0].rstrip(" :"), ()
        return True


class ServerLogger(Logger):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's logger with lines in the service's format. Leans on gunicorn as it was in 27.0.1."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(formatter(os.environ.get("ENVIRONMENT")))
            handler.addFilter(WithoutRequests())
