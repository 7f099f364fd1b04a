"""gunicorn's own log lines, in the service's format and without what clients sent."""

import logging
import os
import re
import sys
from typing import Any

from gunicorn.glogging import Logger

from todo_api.log_format import formatter
from todo_api.log_stream import BoundedStream

# gunicorn names the fault, then quotes the request, which may contain a token or a search.
BEFORE_QUOTE = re.compile(r"Invalid request from ip=\S*: [A-Za-z ]*|Error handling request")


def cut_quote(record: logging.LogRecord) -> bool:
    """Cut off what a message of gunicorn quotes of a request. This is a filter that keeps every record."""
    if kept := BEFORE_QUOTE.match(str(record.msg)):
        record.msg, record.args = kept[0].rstrip(" :"), ()
    return True


class ServerLogger(Logger):
    """gunicorn's logger with the service's formatter. No process waits for whoever reads standard error."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.addFilter(cut_quote)
        for handler in self.error_log.handlers:
            handler.setFormatter(formatter(os.environ.get("ENVIRONMENT")))
            if getattr(handler, "stream", None) is sys.stderr:
                handler.setStream(BoundedStream())

    def use_queue(self, queue: logging.Handler) -> None:
        """Let the application's queue write what would go to standard error."""
        self.error_log.handlers = [
            queue if isinstance(getattr(handler, "stream", None), BoundedStream) else handler
            for handler in self.error_log.handlers
        ]
