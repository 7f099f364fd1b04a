"""A limit on what one user has under way in a process, so that the others find a free thread."""

import time
from collections import defaultdict
from threading import Condition

from flask import Flask

from todo_api.errors import ApiError

MAX_RUNNING = 3  # and one less than there are threads
PATIENCE = 0.1  # seconds; a request that takes longer is slow


class RateLimited(ApiError):
    status_code, error_code, detail = 429, "RATE_LIMITED", "Too many requests; wait before the next."
    headers = {"Retry-After": "1"}


class RunningRequests:
    """The requests of each user that are running: no more than `limit`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._began: defaultdict[str, list[float]] = defaultdict(list)  # by user; times of time.monotonic()
        self._ended = Condition()

    def begin(self, user_id: str) -> float:
        """Return when the request begins. It waits for others of its user, unless they are slow. Raises RateLimited."""
        with self._ended:
            while len(began := self._began[user_id]) >= self._limit:
                seconds = began[-1] + PATIENCE - time.monotonic()
                if seconds <= 0:
                    raise RateLimited
                self._ended.wait(seconds)
            began.append(time.monotonic())
            return began[-1]

    def end(self, user_id: str, began: float) -> None:
        with self._ended:
            self._began[user_id].remove(began)
            if not self._began[user_id]:
                del self._began[user_id]
            self._ended.notify_all()


def init_app(app: Flask) -> None:
    limit = max(1, min(MAX_RUNNING, app.config["WEB_THREADS"] - 1))
    app.extensions["running_requests"] = RunningRequests(limit)
