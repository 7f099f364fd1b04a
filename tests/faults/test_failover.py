"""A streaming standby takes over while the service is under load, directly and behind PgBouncer."""

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from tempfile import mkdtemp
from typing import NamedTuple

import pytest

from tests.faults.conftest import started
from tests.support import pgbouncer, postgres
from tests.support.load import THREADS, WORKERS, Stack, query, under_load
from tests.support.pgbouncer import LOGIN_RETRY, Pooler, pooler
from tests.support.postgres import ControlledServer
from tests.support.programs import free_port
from tests.support.threads import wait_until
from tests.support.tokens import token
from todo_api.database.execution import RETRY_WINDOW

PROMOTE = "SELECT pg_promote()"
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
STATEMENT_TIMEOUT = 3  # the default
SYNCHRONOUS = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"


class Pair(NamedTuple):
    """A primary and its synchronous standby."""

    primary: ControlledServer
    standby: ControlledServer
    ports: tuple[int, int]

    @property
    def url(self) -> str:
        """The URL of whichever of them writes."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"postgresql://postgres@{hosts}/postgres?target_session_attrs=read-write"

    def line(self, number: int) -> str:
        """Return the line of PgBouncer's configuration for one of them."""
        return f"* = host=127.0.0.1 port={self.ports[number]}"


@pytest.fixture
def pair() -> Iterator[Pair]:
    ports = free_port(), free_port()
    always = ("fsync=off", "listen_addresses=127.0.0.1")
    with ExitStack() as servers:

        def serve(port: int, *settings: str) -> ControlledServer:
            folder = mkdtemp(prefix="todo-failover-")
            return servers.enter_context(postgres.controlled_server(folder, *always, f"port={port}", *settings))

        primary = serve(ports[0], "synchronous_standby_names=standby")
        standby = serve(ports[1], f"{postgres.STANDBY_OF}{ports[0]}")
        wait_until(lambda: query(primary.url, SYNCHRONOUS) == [(1,)])
        yield Pair(primary, standby, ports)


@contextmanager
def service_on(pair: Pair, pool: Pooler | None, **settings: str) -> Iterator[Stack]:
    url = f"postgresql://postgres@127.0.0.1:{pool.port}/postgres" if pool else pair.url
    with started(pair.primary, url, MIGRATION_DATABASE_URL=pair.url, **settings) as stack:
        stack.sessions = pool.clients if pool else stack.sessions
        yield stack


@pytest.fixture(params=["directly", "behind PgBouncer"])
def pool(request: pytest.FixtureRequest, pair: Pair) -> Iterator[Pooler | None]:
    if request.param == "directly":
        yield None
    elif not pgbouncer.PROGRAM:
        pytest.skip(pgbouncer.MISSING)
    else:
        with pooler(pair.line(0)) as running:
            yield running


def promote(pair: Pair, pool: Pooler | None) -> None:
    """Make the standby the primary; let a pooler use it, as the scripts of a failover do."""
    query(pair.standby.url, PROMOTE)
    if pool:
        pool.move(pair.line(1))


def stop_fast(pair: Pair) -> None:
    pair.primary.stop(signal.SIGINT)


def crash(pair: Pair) -> None:
    pair.primary.stop(signal.SIGQUIT)


def hang(pair: Pair) -> None:
    pair.primary.pause()


# How the primary ends, and after how many seconds the standby is promoted.
ENDS: dict[str, tuple[Callable[[Pair], None], float]] = {
    "Planned switchover": (stop_fast, 0),
    "The primary crashes, the standby is promoted after 1 s": (crash, 1),
    "The primary crashes, the standby is promoted after 3 s": (crash, 3),
    "The primary hangs, the standby is promoted after 1 s": (hang, 1),
}


@pytest.mark.parametrize("name", ENDS)
def test_every_acknowledged_write_is_on_the_new_primary_exactly_once(
    pair: Pair, pool: Pooler | None, name: str
) -> None:
    end, seconds = ENDS[name]
    with service_on(pair, pool) as stack, under_load(stack, f"{name}{', behind PgBouncer' * bool(pool)}") as load:
        with load.fault():
            end(pair)
            time.sleep(seconds)
            promote(pair, pool)
        assert load.cuts() == 0
        promised = load.began + RETRY_WINDOW - 0.5
        assert [failure for failure in load.broken_promises() if failure.ended < promised] == []
        if end is stop_fast and load.outage + bool(pool) * LOGIN_RETRY < RETRY_WINDOW - 0.5:
            assert load.broken_promises() == []
        pair.primary.kill()


def test_reads_go_on_while_commits_wait_for_a_standby_that_is_gone(pair: Pair) -> None:
    fault = "The synchronous standby is away for 14 seconds"
    with service_on(pair, None) as stack, under_load(stack, fault) as load, ThreadPoolExecutor(1) as thread:
        with load.fault():
            pair.standby.stop(signal.SIGINT)
            wait_until(load.unavailable)
            time.sleep(STATEMENT_TIMEOUT + 2)  # until the first commits have timed out in all workers
            reads = thread.submit(read, stack, seconds=5).result()
            left = query(pair.primary.url, WAITING)
            pair.standby.start()
        assert len(reads) > 100
        assert set(reads) == {200}
        assert left[0][0] <= WORKERS * THREADS  # a commit that waits stays with the server, so no others are sent
        assert load.cuts() == 0


def read(stack: Stack, seconds: float) -> list[int]:
    """Read as a user of one's own for some seconds; return the statuses."""
    statuses, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        statuses.append(stack.server.request("GET", "/api/tasks?limit=1", Authorization=f"Bearer {token('reader')}")[0])
        statuses.append(stack.server.request("GET", "/health/ready")[0])
    return statuses
