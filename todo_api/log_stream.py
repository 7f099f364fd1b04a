"""Standard error for processes that must not wait for its reader. gunicorn's master process imports this module too."""

import io
import os
import sys
import threading
from contextlib import suppress

TIMEOUT = 2  # seconds; on a busy machine a thread may wait a second for a processor


def standard_error() -> io.TextIOWrapper:
    """Open standard error without the buffer of sys.stderr: a write that blocks holds its lock, even at the end."""
    # A process can be started without one. Then descriptor 2 may be another file.
    raw = io.FileIO(2, "w", closefd=False) if sys.__stderr__ else io.FileIO(os.devnull, "w")
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", write_through=True)


class BoundedStream(io.TextIOBase):
    """Writes to standard error, but waits for a reader two seconds at most. Until it reads again, text is lost.

    A thread writes, as a pipe, a socket and a terminal have no timeout in common. It exists only during a write, as
    gunicorn's master forks.
    """

    def __init__(self) -> None:
        self._stream = standard_error()
        self._writer = threading.Thread()

    def write(self, text: str) -> int:
        if not self._writer.is_alive():
            self._writer = threading.Thread(target=self._write, args=[text], name="stderr", daemon=True)
            self._writer.start()
            self._writer.join(TIMEOUT)
        return len(text)

    def _write(self, text: str) -> None:
        with suppress(OSError):  # a full disk, or a reader that has gone
            self._stream.write(text)
