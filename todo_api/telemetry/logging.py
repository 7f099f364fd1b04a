"""The log on standard error: one bounded queue for all lines, which under gunicorn a thread writes."""

import logging
import time
from contextlib import suppress
from logging.handlers import QueueHandler, QueueListener
from queue import SimpleQueue

from flask import Flask, g, has_request_context

from todo_api.telemetry.access_log import AccessLog
from todo_api.telemetry.metrics import MetricsHandler

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 0.2
MAX_WAITING = 100_000  # some 50 MB
MAX_WRITE = 4096  # PIPE_BUF of Linux: shorter writes of several processes do not mix
FULL = {"name": __name__, "levelno": logging.ERROR, "levelname": "ERROR", "msg": "The log is full: lines are lost."}


class BatchHandler(logging.StreamHandler):  # type: ignore[type-arg]  # it takes none at run time
    """Collects lines; writes them when it is flushed, or when the next one does not fit."""

    def __init__(self) -> None:
        super().__init__()
        self._lines = ""

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record) + self.terminator
        if len(self._lines) + len(line) > MAX_WRITE:
            self.flush()
        self._lines += line

    def flush(self) -> None:
        with self.lock:  # type: ignore[union-attr]  # Handler's constructor makes it
            lines, self._lines = self._lines, ""
            with suppress(OSError, ValueError):  # a full disk or a closed stream must not fail a request
                self.stream.write(lines)
                self.stream.flush()


class BatchListener(QueueListener):
    """Handles records in batches every 0.2 s; waking a thread for each record costs a tenth of a request's CPU."""

    queue: SimpleQueue[logging.LogRecord]

    def dequeue(self, block: bool) -> logging.LogRecord:
        while self.queue.empty():
            self.flush()
            time.sleep(PAUSE_SECONDS)
        return self.queue.get(block)

    def handle(self, record: logging.LogRecord) -> None:
        try:
            super().handle(record)
        except Exception:  # whatever it is, the thread goes on
            logger.exception("A log record could not be handled")

    def flush(self) -> None:
        try:
            for handler in self.handlers:
                handler.flush()
        except Exception:
            logger.exception("The log or the metrics could not be written")


class LogQueue(QueueHandler):
    """Queues records. Before `start()` it writes them at once."""

    queue: SimpleQueue[logging.LogRecord]

    def __init__(self, lines: BatchHandler, metrics: MetricsHandler) -> None:
        super().__init__(SimpleQueue())
        self.lines = lines
        self.listener = BatchListener(self.queue, lines, metrics, respect_handler_level=True)
        self._is_started = self._is_full = False

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Add the request's id; the record does not leave the process, so the rest stays as it is."""
        if has_request_context():
            record.request_id = g.record.request_id
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        """Pass a record on without waiting: while the queue is full, records are lost."""
        if not self._is_started:
            self.listener.handle(record)
            self.lines.flush()
        elif self.queue.qsize() < MAX_WAITING:
            self.queue.put(record)
            self._is_full = False
        elif not self._is_full:
            self._is_full = True
            self.queue.put(logging.makeLogRecord(FULL))

    def start(self) -> None:
        """Write from a thread from now on."""
        self.listener.start()
        self._is_started = True

    def stop(self) -> None:
        """Write what waits, and from now on each record at once."""
        self._is_started = False
        self.listener.stop()
        self.listener.flush()


def is_server_message(record: logging.LogRecord) -> bool:
    """Return False for the development server's request lines, which hold query strings."""
    return not str(record.msg).endswith('"%s" %s %s')


def init_app(app: Flask) -> None:
    """Send the log of the application and its libraries to standard error."""
    lines = BatchHandler()
    lines.setFormatter(AccessLog(app.config["ENVIRONMENT"], app.config["LOG_HASH_KEY"]))
    lines.setLevel(app.config["LOG_LEVEL"])
    log = app.extensions["log"] = LogQueue(lines, MetricsHandler(app))
    app.logger.handlers = [log]
    app.logger.propagate = False
    app.logger.setLevel(app.config["LOG_LEVEL"])
    logging.basicConfig(handlers=[log])  # for libraries, from WARNING on
    logging.getLogger("werkzeug").addFilter(is_server_message)
