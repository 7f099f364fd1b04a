"""What is kept of each request: a line in the log and its place in the metrics; users appear as a keyed hash."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b, sha256
from typing import TextIO

from todo_api.log_format import timestamp
from todo_api.telemetry import metrics

PAUSE_SECONDS = 0.2
PIECE_BYTES = 4096  # up to here (PIPE_BUF) lines of several processes do not mix
MOST_WAITING = 100_000  # some 20 MB; the oldest go first when the log cannot be written


@dataclass(slots=True)
class Trace:
    """What is told of a request. Times are in seconds; `ended` is since 1970, `began` a time.perf_counter()."""

    began: float = field(default_factory=time.perf_counter)
    ended: float = 0.0
    seconds: float = 0.0
    database: float = 0.0
    request_id: str = ""
    method: str = ""
    route: str = ""
    status: int = 0
    error_code: str | None = None
    user_id: str | None = None
    is_foreign: bool = False
    refusal: str | None = None

    @property
    def level(self) -> int:
        return logging.ERROR if self.status >= 500 else logging.WARNING if self.is_foreign else logging.INFO


class Reporter:
    """Counts each request and writes its line, which needs no escape: no client can word what is in it."""

    def __init__(self, handler: logging.StreamHandler[TextIO], logger: logging.Logger, key: str, as_json: bool) -> None:
        self._handler, self._logger = handler, logger
        self._key = sha256(key.encode()).digest()
        self._line = self._json if as_json else self._text
        self._waiting: deque[Trace] | None = None
        self._lock = threading.Lock()

    def report(self, trace: Trace) -> None:
        if self._waiting is None:
            self._write([trace])
        else:
            self._waiting.append(trace)

    def keep_reporting(self, meanwhile: Callable[[], object]) -> None:
        """Report from a thread of its own from now on, and call `meanwhile` each time.

        Many at once cost a tenth: in between requests this code is cold, and each write has the threads change places.
        """
        self._waiting = deque(maxlen=MOST_WAITING)

        def report() -> None:
            while True:
                try:
                    self.flush()
                    meanwhile()
                except Exception:  # whatever it is, the thread goes on
                    self._logger.exception("requests could not be reported")
                time.sleep(PAUSE_SECONDS)

        threading.Thread(target=report, name="reports", daemon=True).start()

    def flush(self) -> None:
        """Report what waits."""
        with self._lock:  # first: who ends the process waits for what another has begun to write
            if self._waiting:
                self._write([self._waiting.popleft() for _ in range(len(self._waiting))])

    def user(self, user_id: str) -> str:
        """Return what stands for a user in the log."""
        return blake2b(user_id.encode(), key=self._key, digest_size=8).hexdigest()

    def _write(self, traces: Iterable[Trace]) -> None:
        piece = ""
        for trace in traces:
            metrics.timer(trace.route, trace.method, trace.status).observe(trace.seconds)
            if trace.is_foreign:
                metrics.FOREIGN_TASKS.inc()
            if trace.refusal:
                metrics.REFUSED_TOKENS.labels(trace.refusal).inc()
            if self._logger.isEnabledFor(trace.level):
                line = self._line(trace)
                if len(piece) + len(line) > PIECE_BYTES:
                    self._put(piece)
                    piece = ""
                piece += line
        self._put(piece)

    def _put(self, lines: str) -> None:
        with suppress(OSError):  # a full disk under the log is no reason to refuse a task
            self._handler.stream.write(lines)
            self._handler.stream.flush()

    def _json(self, trace: Trace) -> str:
        return (
            f'{{"time":"{timestamp(trace.ended)}","level":"{logging.getLevelName(trace.level)}",'
            f'"logger":"todo_api.request","request_id":"{trace.request_id}","method":"{trace.method}",'
            f'"route":"{trace.route}","status":{trace.status},"error_code":{quoted(trace.error_code)},'
            f'"duration_ms":{trace.seconds * 1000:.3f},"database_ms":{trace.database * 1000:.3f},'
            f'"user":{quoted(trace.user_id and self.user(trace.user_id))},'
            f'"foreign_task":{"true" if trace.is_foreign else "false"}}}\n'
        )

    def _text(self, trace: Trace) -> str:
        outcome = f"{trace.status} {trace.error_code}" if trace.error_code else trace.status
        return (
            f"{timestamp(trace.ended)} {logging.getLevelName(trace.level)} [{trace.request_id}] {trace.method} "
            f"{trace.route} {outcome} {trace.seconds * 1000:.1f} ms, "
            f"database {trace.database * 1000:.1f} ms\n"
        )


def quoted(text: str | None) -> str:
    return f'"{text}"' if text else "null"
