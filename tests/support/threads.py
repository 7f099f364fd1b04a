"""Concurrency: threads that start together, and waiting for a condition."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

T = TypeVar("T")


def at_once(jobs: list[Callable[[], T]]) -> list[T]:
    """Run the jobs in threads that start together; return their results in order."""
    start = Barrier(len(jobs))

    def run(job: Callable[[], T]) -> T:
        start.wait(30)
        return job()

    with ThreadPoolExecutor(len(jobs)) as threads:
        return list(threads.map(run, jobs))


def wait_until(holds: Callable[[], object], seconds: float = 30) -> None:
    """Wait for a condition. Raises AssertionError after that many seconds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
