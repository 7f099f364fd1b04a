"""Faults of the system clock: it is set back while the service is under load, or jumps ahead."""

import shutil
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import NamedTuple

import pytest

from tests.faults.conftest import Start
from tests.faults.test_database import TERMINATE, assert_reads_and_creations_never_failed
from tests.support import postgres
from tests.support.load import Stack, under_load
from tests.support.postgres import ControlledServer
from tests.support.threads import wait_until
from tests.support.tokens import token

PACKAGE = find_spec("libfaketime")
LIBRARY = Path("vendor", "libfaketime", "src", "libfaketime.so.1")
CACHED_SECONDS = 1  # until each program has read the clock again
BACKENDS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'todo_api'"

pytestmark = pytest.mark.skipif(not PACKAGE, reason="run this on Linux and x86-64: PyPI has libfaketime only for them")


class Clock(NamedTuple):
    """The time of day of all programs started with `environment`."""

    preloaded: Path
    offset: Path

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(self.preloaded),
            "FAKETIME_TIMESTAMP_FILE": str(self.offset),
            "FAKETIME_CACHE_DURATION": str(CACHED_SECONDS),
            "DONT_FAKE_MONOTONIC": "1",  # the monotonic clock is not set back
            "NO_FAKE_STAT": "1",
        }

    def set(self, offset: str) -> None:
        new = self.offset.with_suffix(".new")
        new.write_text(offset)
        new.replace(self.offset)
        time.sleep(2 * CACHED_SECONDS)


@pytest.fixture
def clock() -> Iterator[Clock]:
    with TemporaryDirectory(prefix="todo-clock-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # for PostgreSQL, which runs as another user if the tests run as root
        clock = Clock(folder / LIBRARY.name, folder / "offset")
        assert PACKAGE
        shutil.copy(Path(str(PACKAGE.origin)).parent / LIBRARY, clock.preloaded)
        clock.offset.write_text("+0")
        yield clock


@pytest.fixture
def database(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[ControlledServer]:
    for name, value in clock.environment.items():
        monkeypatch.setenv(name, value)
    with postgres.controlled_server(mkdtemp(prefix="todo-faults-")) as database:
        monkeypatch.undo()
        yield database


def seconds_ahead(stack: Stack) -> float:
    [[now]] = stack.query("SELECT extract(epoch FROM clock_timestamp())::float")
    return float(now) - time.time()


def terminate_all(stack: Stack) -> None:
    before = set(stack.query(BACKENDS))
    assert stack.query(TERMINATE)
    wait_until(lambda: not before & set(stack.query(BACKENDS)))


def test_setting_the_clock_back_fails_no_read_and_no_creation_and_wastes_no_connection(
    service: Start, clock: Clock
) -> None:
    fault = "Clock set back by an hour, twice; all connections terminated each time"
    with service(**clock.environment) as stack, under_load(stack, fault) as load:
        with load.fault():
            for hours in range(3):
                clock.set(f"-{hours}h")
                assert abs(seconds_ahead(stack) + hours * 3600) < 60
                terminate_all(stack)  # so that connections are younger, by the clock, than what ended others
                load.wait_for_recovery()
                before = set(stack.query(BACKENDS))
                load.wait_for_recovery()
                assert before <= set(stack.query(BACKENDS))
        load.outage = 0.0  # the database was never away
        assert_reads_and_creations_never_failed(load)


def test_a_token_ends_as_soon_as_the_clock_jumps_past_its_expiry(service: Start, clock: Clock) -> None:
    """As on a machine that wakes up: the monotonic clock of the service does not jump."""
    headers = {"Authorization": f"Bearer {token(exp=int(time.time()) + 600)}"}
    with service(**clock.environment) as stack:
        assert [stack.server.request("GET", "/api/tasks", **headers)[0] for _ in range(50)] == [200] * 50
        clock.set("+1h")
        assert seconds_ahead(stack) > 3500
        answers = [stack.server.request("GET", "/api/tasks", **headers) for _ in range(50)]
    assert {(status, body["error_code"]) for status, body in answers} == {(401, "TOKEN_EXPIRED")}
