"""Load on the running service while faults are injected, and a check that acknowledged writes are kept.

Each client is a separate user and the only writer of its tasks, so it always knows what a read must return.
"""

import http.client
import json
import random
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from traceback import format_exc
from typing import Any, NamedTuple
from uuid import uuid4

import psycopg2
import pytest

from tests.support.postgres import ControlledServer, children
from tests.support.programs import Server, threads_of
from tests.support.threads import wait_until
from tests.support.tokens import token

needs_proc = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="run these tests on Linux, or in a container of it: they read /proc"
)
USERS = 16
WORKERS, THREADS = 2, 4
PAUSE_SECONDS = 0.05  # before a client retries
PATIENCE_SECONDS = 40  # until a client gives up on a request
CALM_SECONDS = 0.5
SLOW_SECONDS = 0.3  # of a request that is slow already when a fault begins
ERROR_BODY = {"detail", "error_code", "status_code"}
STEPS = ("create", "read", "change", "create", "list", "remove", "sweep")
RETRIED_METHODS = {"GET", "HEAD", "POST"}  # reads and creations, which the service retries


class Attempt(NamedTuple):
    """One request, when it began and ended; status 0 means that the connection was cut."""

    began: float
    ended: float
    user: str
    method: str
    status: int


class Row(NamedTuple):
    """One row of the table in docs/reliability.md."""

    fault: str
    attempts: int
    unavailable_retried: int
    unavailable_other: int
    cut: int
    seconds: float


class User(threading.Thread):
    """Creates, reads, changes, lists and deletes tasks until told to stop; retries what was not acknowledged."""

    def __init__(self, load: "Load", name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.load = load
        self.tasks: dict[str, dict[str, Any]] = {}
        self.unsure: set[str] = set()  # tasks with a change that may still be applied
        self.lasting: set[str] = set()  # tasks that a late first attempt would create again if they were deleted
        self.repeated = False
        self.rounds = 0
        self._connection: http.client.HTTPConnection | None = None
        bearer = token(name, iat=None)  # it would be in the future after the clock is set back
        self._headers = {"Authorization": f"Bearer {bearer}", "Content-Type": "application/json"}

    def run(self) -> None:
        try:
            while not self.load.stopping.is_set():
                for step in self.load.steps:
                    getattr(self, f"_{step}")()
                self.rounds += 1
        except Exception:  # reported by `stop`
            self.load.problems.append(f"{self.name}: {format_exc()}")
        finally:
            self._hang_up()

    def _create(self) -> None:
        key = uuid4().hex
        task = self._until({201}, "POST", "/api/tasks", {"title": key}, {"Idempotency-Key": key})
        assert task["title"] == key
        assert task["id"] not in self.tasks
        self.tasks[task["id"]] = task
        if self.repeated:
            self.lasting.add(task["id"])

    def _read(self) -> None:
        task = random.choice(list(self.tasks.values()))
        self._compare([self._until({200}, "GET", f"/api/tasks/{task['id']}")], [task])
        self._until({200}, "HEAD", f"/api/tasks/{task['id']}")

    def _change(self) -> None:
        task = random.choice([task for task in self.tasks.values() if task["id"] not in self.unsure])
        description = uuid4().hex
        method = random.choice(["PUT", "PATCH"])
        changed = self._until({200}, method, f"/api/tasks/{task['id']}", {"description": description})
        assert changed["updated_at"] > task["updated_at"]
        assert changed == {**task, "description": description, "updated_at": changed["updated_at"]}
        self.tasks[task["id"]] = changed
        if self.repeated:
            self.unsure.add(task["id"])

    def _list(self) -> None:
        self._compare(self._until({200}, "GET", "/api/tasks"), list(self.tasks.values()))

    def _compare(self, found: list[dict[str, Any]], known: list[dict[str, Any]]) -> None:
        """Compare tasks. A change retried after a 503 may be applied twice, so its version is not compared."""
        for task in known:
            [same] = [one for one in found if one["id"] == task["id"]]
            version = same["updated_at"] if task["id"] in self.unsure else task["updated_at"]
            assert same == {**task, "updated_at": version}
        assert len(found) == len(known)

    def _remove(self) -> None:
        removable = [task for task in self.tasks.values() if task["id"] not in self.lasting]
        if not removable:
            return
        task = random.choice(removable)
        self._until({204}, "DELETE", f"/api/tasks/{task['id']}")
        del self.tasks[task["id"]]

    def _sweep(self) -> None:
        """Complete and delete all tasks of another user, as a late first attempt would also match newer tasks."""
        sweeper = {"Authorization": f"Bearer {token(f'{self.name}-sweeper', iat=None)}"}
        task = self._until({201}, "POST", "/api/tasks", {"title": "Dust"}, {"Idempotency-Key": uuid4().hex, **sweeper})
        self._until({200}, "PATCH", "/api/tasks?is_completed=false", {"is_completed": True}, sweeper)
        self._until({200}, "DELETE", "/api/tasks?is_completed=true", None, sweeper)
        self._until({404}, "GET", f"/api/tasks/{task['id']}", None, sweeper)

    def _until(
        self, expected: set[int], method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """Send the request until it is acknowledged; check each response against the contract."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        ends: list[int] = []
        while time.monotonic() < deadline:
            began = time.monotonic()
            status, answer, said = self._send(method, path, body, headers or {})
            self.load.attempts.append(Attempt(began, time.monotonic(), self.name, method, status))
            hidden = said.get("Idempotency-Replayed") == "true" or (method == "DELETE" and status == 404)
            if status in expected or (hidden and ends):
                assert not hidden or ends, "a first call was answered as a replay"
                self.load.applied_but_cut += bool(hidden and 0 in ends)
                self.repeated = bool(ends)
                return self.load.compared(answer)
            if status:
                assert status == 503, f"{method} {path} was answered {status}: {answer}"
                assert int(said["Retry-After"]) > 0
                if method != "HEAD":
                    assert set(answer) == ERROR_BODY
                    assert (answer["error_code"], answer["status_code"]) == ("DATABASE_UNAVAILABLE", 503)
            ends.append(status)
            time.sleep(PAUSE_SECONDS)
        raise AssertionError(f"{method} {path} was not acknowledged in time: {Counter(ends)}")

    def _send(self, method: str, path: str, body: Any, headers: Mapping[str, str]) -> tuple[int, Any, Any]:
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection("127.0.0.1", self.load.port, timeout=PATIENCE_SECONDS)
            sent = json.dumps(body) if body is not None else None
            self._connection.request(method, path, sent, {**self._headers, **headers})
            response = self._connection.getresponse()
            raw = response.read()
        except (OSError, http.client.HTTPException):
            self._hang_up()
            return 0, None, {}
        if response.will_close:
            self._hang_up()
        return response.status, json.loads(raw) if raw else None, response.headers

    def _hang_up(self) -> None:
        if self._connection:
            self._connection.close()
        self._connection = None


def query(url: str, sql: str, *values: Any) -> list[Any]:
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(sql, values)
        return cursor.fetchall() if cursor.description else []


def resident(process: int) -> int:
    """Return the private memory of a process in bytes."""
    held = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii")
    return sum(int(size) << 10 for size in re.findall(r"^(?:Private_\w+|Swap): +(\d+) kB$", held, re.MULTILINE))


class Stack:
    """The service: gunicorn and its database."""

    def __init__(self, server: Server, database: ControlledServer, environment: Mapping[str, str]) -> None:
        self.server, self.database, self.environment = server, database, environment
        self.url = environment.get("MIGRATION_DATABASE_URL", environment["DATABASE_URL"])  # past a pooler
        self.sessions: Callable[[], int] = lambda: self.connections().total()  # of the service, at its database

    def workers(self) -> list[int]:
        return children(self.server.program.process.pid)

    def query(self, sql: str, *values: Any) -> list[Any]:
        return query(self.url, sql, *values)

    @contextmanager
    def session(self, *statements: str) -> Iterator[None]:
        """Run statements in a transaction that stays open during the block."""
        with closing(psycopg2.connect(self.url)) as connection:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)
            yield

    def connections(self) -> Counter[str]:
        """Count the service's database connections by state."""
        states = (
            "SELECT state FROM pg_stat_activity WHERE application_name = 'todo_api' AND datname = current_database()"
        )
        return Counter(state for (state,) in self.query(states))

    def threads(self) -> list[int]:
        return [threads_of(worker) for worker in self.workers()]

    def wait(self) -> None:
        """Wait until each worker serves with all its threads."""

        def serve() -> bool:
            threads = self.threads()
            return len(threads) == WORKERS and min(threads) > THREADS

        wait_until(serve, PATIENCE_SECONDS)

    def descriptors(self) -> int:
        """Count the workers' file descriptors, database connections excluded."""
        held = sum(len(list(Path(f"/proc/{worker}/fd").iterdir())) for worker in self.workers())
        return held - self.sessions()


class Load:
    """The load of all users, and its results."""

    def __init__(
        self,
        port: int,
        query: Callable[..., list[Any]],
        users: int = USERS,
        steps: Sequence[str] = STEPS,
        fields: Sequence[str] = (),
    ) -> None:
        """`steps` are what a user does in a round; `fields` of a task are compared, if not all."""
        self.port, self.query, self.steps, self.fields = port, query, steps, fields
        self.attempts: list[Attempt] = []
        self.problems: list[str] = []
        self.applied_but_cut = 0  # writes that were applied though the connection was cut
        self.stopping = threading.Event()
        self.began = self.ended = time.monotonic()
        self.faults: list[float] = []  # when each began
        self.outage = 0.0
        run = uuid4().hex[:8]
        self.users = [User(self, f"{run}-{number}") for number in range(users)]
        for user in self.users:
            user.start()

    def compared(self, answer: Any) -> Any:
        """Return what is compared of a task, of each task in a list, or of another body."""
        if isinstance(answer, list):
            return [self.compared(one) for one in answer]
        if self.fields and isinstance(answer, dict) and "id" in answer:
            return {name: answer[name] for name in self.fields}
        return answer

    @contextmanager
    def fault(self) -> Iterator[None]:
        """Measure the fault's duration, then wait for the recovery."""
        self.began = time.monotonic()
        self.faults.append(self.began)
        yield
        self.ended = time.monotonic()
        self.outage = max(self.outage, self.ended - self.began)
        self.wait_for_recovery()

    def wait_for_recovery(self, seconds: float = CALM_SECONDS) -> None:
        """Wait until each user has done two more rounds and nothing has failed for some seconds."""
        goals = {user: user.rounds + 2 for user in self.users}
        deadline = time.monotonic() + 2 * PATIENCE_SECONDS
        while not self.problems and (
            any(user.rounds < goals[user] for user in self.users) or self.seconds_since_failure() < seconds
        ):
            assert time.monotonic() < deadline, "the service does not recover"
            time.sleep(0.05)
        assert not self.problems, "\n".join(self.problems)

    def seconds_since_failure(self) -> float:
        return time.monotonic() - max([a.ended for a in self.failures()], default=0.0)

    def failures(self, methods: set[str] | None = None) -> list[Attempt]:
        """Return the attempts that ended in 503 or a cut connection, of these methods or all."""
        return [a for a in list(self.attempts) if a.status in (0, 503) and (not methods or a.method in methods)]

    def broken_promises(self) -> list[Attempt]:
        """Return failures of what is retried, but of no request that was slow already when a fault began.

        Its time to retry ends sooner after the fault.
        """

        def was_slow(attempt: Attempt) -> bool:
            return any(attempt.began + SLOW_SECONDS < began < attempt.ended for began in self.faults)

        return [attempt for attempt in self.failures(RETRIED_METHODS) if not was_slow(attempt)]

    def cuts(self) -> int:
        return sum(a.status == 0 for a in self.attempts)

    def unavailable(self, methods: set[str] | None = None) -> int:
        return sum(a.status == 503 for a in self.failures(methods))

    def stop(self) -> None:
        self.stopping.set()
        for user in self.users:
            user.join(2 * PATIENCE_SECONDS)
            assert not user.is_alive(), f"{user.name} hangs"
        assert not self.problems, "\n".join(self.problems)

    def check_tables(self) -> None:
        """Check that the database holds exactly the acknowledged tasks."""
        columns = "user_id, id, title, description, is_completed"
        rows = self.query(f"SELECT {columns} FROM tasks WHERE user_id = ANY(%s)", [u.name for u in self.users])
        known = [tuple(t[name] for name in columns.split(", ")) for u in self.users for t in u.tasks.values()]
        assert sorted(rows, key=str) == sorted(known, key=str)

    def row(self, fault: str) -> Row:
        """Return the results; normal again means the first success after the last failure."""
        over = max([self.ended, *[attempt.ended for attempt in self.failures()]])
        normal = min(attempt.ended for attempt in self.attempts if attempt.ended > over)
        retried = self.unavailable(RETRIED_METHODS)
        return Row(fault, len(self.attempts), retried, self.unavailable() - retried, self.cuts(), normal - self.ended)


ROWS: list[Row] = []


@contextmanager
def under_load(stack: Stack, fault: str) -> Iterator[Load]:
    """Run a block under load, then check for lost or duplicate writes and leaks."""
    load = Load(stack.server.port, stack.query)
    try:
        load.wait_for_recovery(0)
        descriptors = settled(stack.descriptors) - USERS
        yield load
        load.stop()
    finally:
        load.stopping.set()
    load.check_tables()
    assert_nothing_leaks(stack, descriptors)
    ROWS.append(load.row(fault))


def settled(count: Callable[[], int]) -> int:
    """Return a count once it has not changed for half a second."""
    before, now = -1, count()
    while now != before:
        time.sleep(0.5)
        before, now = now, count()
    return now


def assert_nothing_leaks(stack: Stack, descriptors: int) -> None:
    wait_until(lambda: stack.descriptors() <= descriptors, 15)
    wait_until(lambda: max(stack.threads()) <= THREADS + 3, 15)  # the main one, the watchdog and the log's
    # Server processes notice later that their clients have left.
    wait_until(lambda: (found := stack.connections()).keys() == {"idle"} and found["idle"] <= WORKERS * THREADS, 15)
