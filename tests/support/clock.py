"""A clock that stands still unless a test sets it, in place of the `time` module that a module imports."""

import time
from types import ModuleType

import pytest


class Clock:
    perf_counter = staticmethod(time.perf_counter)
    sleep = staticmethod(time.sleep)

    def __init__(self) -> None:
        self._monotonic, self._time = time.monotonic() // 1, time.time() // 1  # whole seconds: sums with such are exact
        self.ahead = 0.0  # seconds
        self.asleep = 0.0  # seconds that only the time of day has moved, as while a machine sleeps; back if negative

    def monotonic(self) -> float:
        return self._monotonic + self.ahead

    def time(self) -> float:
        return self._time + self.ahead + self.asleep


def replace_clock(monkeypatch: pytest.MonkeyPatch, *modules: ModuleType) -> Clock:
    """Give the modules one clock in place of `time`; return it."""
    clock = Clock()
    for module in modules:
        monkeypatch.setattr(module, "time", clock)
    return clock
