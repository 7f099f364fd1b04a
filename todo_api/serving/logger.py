"""gunicorn's own log lines: in the service's format, and without what clients sent."""

import logging
import os
import re
from typing import Any

from gunicorn.glogging import Logger

from todo_api.log_format import formatter

# gunicorn names the fault, then quotes the request: there may be a token in it, or a search.
BEFORE_QUOTE = re.compile(r"Invalid request from ip=\S*: [A-Za-z ]*|Error handling request")


class RequestQuoteFilter(logging.Filter):
    """Cuts gunicorn's messages before what they quote of a request."""

    def filter(self, record: logging.LogRecord) -> bool:
        if kept := BEFORE_QUOTE.match(str(record.msg)):
            record.msg, record.args = kept[0].rstrip(" :"), ()
        return True


class ServerLogger(Logger):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's logger with the service's formatter."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(formatter(os.environ.get("ENVIRONMENT")))
            handler.addFilter(RequestQuoteFilter())
