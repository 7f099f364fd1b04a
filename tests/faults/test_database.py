"""Faults of the database while the service is under load."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from tests.faults.conftest import Start
from tests.support.load import RETRIED_METHODS, Load, Stack, query, under_load
from tests.support.postgres import ControlledServer, unprivileged
from tests.support.threads import wait_until
from todo_api.database.execution import RETRY_WINDOW

SMALL_MIB = 64  # of a disk that fills up
TERMINATE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'todo_api'"
A_BACKEND = "SELECT pid FROM pg_stat_activity WHERE application_name = 'todo_api' LIMIT 1"


def assert_reads_and_creations_never_failed(load: Load) -> None:
    """As promised for an outage shorter than RETRY_WINDOW."""
    assert load.cuts() == 0
    if load.outage < RETRY_WINDOW - 0.5:
        assert load.broken_promises() == []


@pytest.mark.parametrize(("how", "name"), [(signal.SIGINT, "restarted"), (signal.SIGQUIT, "stopped as in a crash")])
def test_a_short_outage_fails_no_read_and_no_creation(service: Start, how: signal.Signals, name: str) -> None:
    with service() as stack, under_load(stack, f"PostgreSQL {name}, away for a second") as load:
        with load.fault():
            stack.database.stop(how)
            time.sleep(1)
            stack.database.start()
        assert_reads_and_creations_never_failed(load)


def test_in_a_long_outage_requests_fail_at_once_and_recover(service: Start) -> None:
    with service() as stack, under_load(stack, "PostgreSQL away for four seconds") as load:
        with load.fault():
            stack.database.stop(signal.SIGINT)
            time.sleep(4)
            stack.database.start()
        assert load.unavailable(RETRIED_METHODS) > 0
        assert load.cuts() == 0


def test_terminated_connections_fail_no_read_and_no_creation(service: Start) -> None:
    with service() as stack, under_load(stack, "All connections to PostgreSQL terminated, ten times") as load:
        with load.fault():
            for _ in range(10):
                wait_until(lambda: stack.query(TERMINATE))
                time.sleep(0.15)
        load.outage = 0.0  # the database was never away
        assert_reads_and_creations_never_failed(load)


def test_a_crash_of_the_database_fails_no_read_and_no_creation(service: Start) -> None:
    with (
        service() as stack,
        under_load(stack, "A PostgreSQL process killed (SIGKILL), five times: crash recovery") as load,
    ):
        for _ in range(5):
            with load.fault():
                crash(stack)
        assert_reads_and_creations_never_failed(load)


def crash(stack: Stack) -> None:
    """Kill a server process and wait for the crash recovery."""
    [[backend]] = stack.query(A_BACKEND)
    with closing(psycopg2.connect(stack.database.url)) as connection, connection.cursor() as cursor:
        os.kill(backend, signal.SIGKILL)
        with pytest.raises(psycopg2.DatabaseError):
            cursor.execute("SELECT pg_sleep(60)")

    def has_recovered() -> bool:
        try:
            return bool(stack.query("SELECT 1"))
        except psycopg2.OperationalError:
            return False

    wait_until(has_recovered)


def test_a_hung_database_is_503_until_it_continues(service: Start) -> None:
    with (
        service(DB_STATEMENT_TIMEOUT="1") as stack,
        under_load(stack, "PostgreSQL hangs (SIGSTOP) for four seconds") as load,
    ):
        with load.fault(), stack.database.paused():
            time.sleep(4)
        assert load.unavailable() > 0
        assert load.cuts() == 0


def test_an_exhausted_pool_fails_requests_in_time(service: Start) -> None:
    pool = {"DB_POOL_SIZE": "1", "DB_MAX_OVERFLOW": "0", "DB_POOL_TIMEOUT": "1"}
    with service(**pool) as stack, under_load(stack, "Every pooled connection busy for three seconds") as load:
        with load.fault(), stack.session("LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE"):
            time.sleep(3)
        assert load.unavailable() > 0
        assert load.cuts() == 0


def test_a_statement_timeout_affects_no_other_user(service: Start) -> None:
    with (
        service() as stack,
        under_load(stack, "One user's rows locked for eight seconds, statements limited to three") as load,
    ):
        locked = load.users[0]
        with load.fault(), stack.session(f"SELECT 1 FROM tasks WHERE user_id = '{locked.name}' FOR UPDATE"):
            others = {user: user.rounds for user in load.users[1:]}
            time.sleep(8)
            assert all(user.rounds > rounds for user, rounds in others.items())
        assert {attempt.user for attempt in load.failures()} == {locked.name}
        assert load.unavailable(RETRIED_METHODS) == 0
        assert load.cuts() == 0


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Yield the folder of a small file system: one made for this, or a container's /dev/shm."""
    folder.mkdir()
    as_root = ["sudo", "-n"] if os.getuid() != 0 and os.environ.get("CI") == "true" else []
    mount: list[Any] = [*as_root, "mount", "-t", "tmpfs", "-o", f"size={SMALL_MIB}m", "tmpfs", folder]
    if subprocess.run(mount, check=False, capture_output=True).returncode == 0:
        try:
            yield folder
        finally:
            subprocess.run([*as_root, "umount", folder], check=True)
    elif shutil.disk_usage("/dev/shm").total <= 2 * SMALL_MIB * 2**20:
        yield Path("/dev/shm")
    else:
        pytest.skip(f"be root, or have a /dev/shm of at most {2 * SMALL_MIB} MiB: this test fills a small disk")


@pytest.fixture
def small(database: ControlledServer) -> Iterator[Path]:
    """A disk with a tablespace `small` on it."""
    with small_disk(database.scratch / "small") as disk:
        place = disk / "todo-faults-tables"
        place.mkdir()
        if identity := unprivileged():
            shutil.chown(place, identity["user"], identity["group"])
        query(database.url, f"CREATE TABLESPACE small LOCATION '{place}'")
        yield disk
        query(database.url, "DROP TABLESPACE small")
        place.rmdir()


def test_a_full_disk_fails_writes_only_and_only_until_there_is_space(service: Start, small: Path) -> None:
    filler = small / "todo-faults-filler"
    with service("small") as stack, under_load(stack, "The disk of PostgreSQL's tables is full") as load:
        try:
            with load.fault():
                fill(filler)
                wait_until(lambda: load.unavailable({"POST"}))
                time.sleep(1)
                filler.unlink()
        finally:
            filler.unlink(missing_ok=True)
        assert load.unavailable({"GET"}) == 0
        assert load.cuts() == 0


def fill(filler: Path) -> None:
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 2**20):
                pass
        except OSError:
            return
