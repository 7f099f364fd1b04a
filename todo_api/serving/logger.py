"""gunicorn's own log lines, in the service's format and without what clients sent."""

import logging
import os
import re
from typing import Any

from gunicorn.glogging import Logger

from todo_api.log_format import formatter

# gunicorn names the fault, then quotes the request, which may contain a token or a search.
BEFORE_QUOTE = re.compile(r"Invalid request from ip=\S*: [A-Za-z ]*|Error handling request")


def cut_quote(record: logging.LogRecord) -> bool:
    """Cut off what a message of gunicorn quotes of a request. This is a filter that keeps every record."""
    if kept := BEFORE_QUOTE.match(str(record.msg)):
        record.msg, record.args = kept[0].rstrip(" :"), ()
    return True


class ServerLogger(Logger):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's logger with the service's formatter."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(formatter(os.environ.get("ENVIRONMENT")))
            handler.addFilter(cut_quote)
