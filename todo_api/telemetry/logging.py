"""The log on standard error. Every line passes through one bounded queue, which a thread empties under gunicorn."""

import logging
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TextIO

from flask import Flask

from todo_api.log_stream import standard_error
from todo_api.telemetry.access_log import AccessLog
from todo_api.telemetry.requests import CURRENT, RequestRecord

logger = logging.getLogger(__name__)

WRITE_INTERVAL = 0.2  # seconds; waking a thread for each record costs a tenth of a request's CPU
REPORT_INTERVAL = 60  # seconds between two reports that the log or the metrics cannot be written
MAX_WAITING = 100_000  # records, some 50 MB
END_TIMEOUT = 2  # seconds that the end of a process waits for whoever reads the log
MAX_WRITE = 4096  # PIPE_BUF of Linux: shorter writes of several processes do not mix
FULL = {"name": __name__, "levelno": logging.ERROR, "levelname": "ERROR", "msg": "The log is full: lines are lost."}


class LogQueue(logging.StreamHandler[TextIO]):
    """Queues records, writes their lines and counts their requests: at once, or after `start()` in a thread."""

    def __init__(self, app: Flask) -> None:
        super().__init__()
        self._app = app
        self._queue: SimpleQueue[logging.LogRecord] = SimpleQueue()
        self._is_started = self._is_full = False
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._stopping = threading.Event()
        self._writing = threading.RLock()  # not Handler's own, for which logging waits at the end

    def handle(self, record: logging.LogRecord) -> bool:  # not emit(), which would wait for Handler's lock
        """Queue a logger's record with the request's id."""
        if request := CURRENT.get():
            record.request_id = request.request_id
        self.enqueue(record)
        return True

    def enqueue(self, record: logging.LogRecord) -> None:
        """Queue a record; while the queue is full, records are lost."""
        if self._queue.qsize() < MAX_WAITING:
            self._queue.put(record)
            self._is_full = False
        elif not self._is_full:
            self._is_full = True
            self._queue.put(logging.makeLogRecord(FULL))
        if not self._is_started:  # checked last, so that stop() leaves no record in the queue
            self.flush()

    def start(self) -> None:
        """Write from a thread from now on."""
        if self.stream is sys.stderr:
            self.setStream(standard_error())
        self._is_started = True
        self._thread.start()

    def stop(self) -> None:
        """Write all waiting lines, and from now on each one at once. Without a reader, lines are lost after a while."""
        self._stopping.set()
        if self._is_started:
            self._thread.join(END_TIMEOUT)
            self._is_started = self._thread.is_alive()  # if it still waits for a reader, no one else must
        self.flush()

    def _run(self) -> None:
        report_at, is_last = 0.0, False
        while not is_last:
            is_last = self._stopping.wait(WRITE_INTERVAL)
            try:
                self._write()
                with self._app.app_context():
                    self._app.extensions["metrics"].publish()  # another process may serve /metrics
            except Exception:  # the thread goes on whatever happens
                if time.monotonic() >= report_at:
                    logger.exception("The log or the metrics could not be written")
                    report_at = time.monotonic() + REPORT_INTERVAL

    def flush(self) -> None:
        """Write all waiting lines, unless a thread does."""
        if not self._is_started:
            self._write()

    def _write(self) -> None:
        with self._writing:
            for batch in batches(self._lines()):
                with suppress(OSError, ValueError):  # a full disk or a closed stream must not fail a request
                    self.stream.write(batch)
                    self.stream.flush()

    def _lines(self) -> Iterator[str]:
        """Yield the lines of the waiting records, and count their requests."""
        with suppress(Empty):
            while True:
                record = self._queue.get_nowait()
                is_request = isinstance(record, RequestRecord)
                try:
                    if record.levelno >= self._app.logger.level or not is_request:  # loggers have checked all others
                        yield self.format(record) + self.terminator
                    if is_request:
                        self._app.extensions["metrics"].count(record)
                except Exception:
                    logger.exception("A log record could not be handled")


def batches(lines: Iterable[str]) -> Iterator[str]:
    """Join lines up to the size that is written at once."""
    batch = ""
    for line in lines:
        if len(batch) + len(line) > MAX_WRITE:
            yield batch
            batch = ""
        batch += line
    yield batch


def is_server_message(record: logging.LogRecord) -> bool:
    """Return False for the development server's request lines, which hold query strings."""
    return not str(record.msg).endswith('"%s" %s %s')


def init_app(app: Flask) -> None:
    """Send the log of the application and its libraries to standard error."""
    log = app.extensions["log"] = LogQueue(app)
    log.setFormatter(AccessLog(app.config["ENVIRONMENT"], app.config["LOG_HASH_KEY"]))
    app.logger.handlers = [log]
    app.logger.propagate = False
    app.logger.setLevel(app.config["LOG_LEVEL"])
    logging.basicConfig(handlers=[log], level=max(logging.WARNING, app.logger.level))  # for libraries
    logging.getLogger("werkzeug").addFilter(is_server_message)
