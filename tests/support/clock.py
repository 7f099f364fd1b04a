"""A clock that tests set, in place of the `time` module that a module imports."""

import time
from types import ModuleType

import pytest


class Clock:
    perf_counter = staticmethod(time.perf_counter)

    def __init__(self) -> None:
        self.ahead = 0.0  # seconds
        self.asleep = 0.0  # seconds that only the time of day has moved, as while a machine sleeps; back if negative

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead

    def time(self) -> float:
        return time.time() + self.ahead + self.asleep


def replace_clock(monkeypatch: pytest.MonkeyPatch, *modules: ModuleType) -> Clock:
    """Give the modules one clock in place of `time`; return it."""
    clock = Clock()
    for module in modules:
        monkeypatch.setattr(module, "time", clock)
    return clock
