"""Database connections lost before a statement arrives or before its result comes back."""

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text
from werkzeug.test import TestResponse

from tests.conftest import MISSING_ID, Caller, MakeApp, assert_error, dispose, environ_for, in_process
from tests.support import proxies
from tests.support.clock import Clock, replace_clock
from tests.support.databases import engine_of, rows_of
from tests.support.pgbouncer import WANTED, pooled
from tests.support.proxies import CuttingProxy, UnixSocketProxy
from tests.support.statements import database_of
from tests.support.threads import at_once
from todo_api import create_app
from todo_api.database import connections, execution
from todo_api.tasks import ownership

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)

CUTS = ("before", "after")
LOSSES = 8
IDLE, RETRY_WINDOW = connections.IDLE, execution.RETRY_WINDOW
Request = Callable[[Caller, dict[str, Any]], TestResponse]


def task_at(task: dict[str, Any]) -> str:
    return f"/api/tasks/{task['id']}"


def create(user: Caller, _: dict[str, Any], **headers: str) -> TestResponse:
    return user.post("/api/tasks", json={"title": "New"}, headers=headers)


def known_list(user: Caller, _: dict[str, Any]) -> TestResponse:
    tag = user.get("/api/tasks?limit=1").headers["ETag"]
    return user.get("/api/tasks?limit=1", headers={"If-None-Match": tag})


def stale_change(user: Caller, task: dict[str, Any]) -> TestResponse:
    return user.put(task_at(task), json={}, headers={"If-Match": '"old"'})


READS: dict[str, tuple[int, Request]] = {
    "get": (200, lambda user, task: user.get(task_at(task))),
    "get a missing task": (404, lambda user, _: user.get(task_at({"id": MISSING_ID}))),
    "list with the total": (200, lambda user, _: user.get("/api/tasks?limit=1&include_total=true")),
    "list that is known": (304, known_list),
    "change nothing of an old version": (412, stale_change),
}
CREATIONS: dict[str, Request] = {
    "create": create,
    "create with a key": lambda user, task: create(user, task, Idempotency_Key="k"),
}
WRITES: dict[str, tuple[int, Request]] = {
    "put": (200, lambda user, task: user.put(task_at(task), json={"title": "Put"})),
    "delete": (204, lambda user, task: user.delete(task_at(task))),
    "mark all": (200, lambda user, _: user.patch("/api/tasks?is_completed=false", json={"is_completed": True})),
    "delete all": (200, lambda user, _: user.delete("/api/tasks?is_completed=false")),
}
ALL = READS | {name: (201, send) for name, send in CREATIONS.items()} | WRITES


@pytest.fixture(autouse=True)
def _every_connection_counts_as_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Except new ones."""
    monkeypatch.setattr(connections, "IDLE", 1e-9)


@pytest.fixture(autouse=True)
def _no_write_prunes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request then has as many statements each time."""
    monkeypatch.setattr(ownership, "PRUNE_EVERY", 10**9)


@pytest.fixture(autouse=True)
def _requests_have_time_to_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine, too."""
    monkeypatch.setattr(execution, "RETRY_WINDOW", 30)


@pytest.fixture
def cutter(database_url: str) -> Iterator[CuttingProxy]:
    cutter = CuttingProxy(pooled(database_url))
    yield cutter
    cutter.close()


@pytest.fixture
def make_app(cutter: CuttingProxy, tmp_path: Path) -> Iterator[MakeApp]:
    """Make an application that connects through the cutter, which is in front of a pooler if there is one."""
    made = []

    def make(**settings: str) -> Any:
        made.append(in_process(create_app(environ_for(cutter.url, **settings), tmp_path)))
        return made[-1]

    yield make
    for app in made:
        dispose(app)


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app()


@pytest.fixture
def rows(database_url: str) -> Iterator[Callable[[], list[Any]]]:
    """Read all tasks past the cutter."""
    tasks = text("SELECT id, title, is_completed, updated_at FROM tasks ORDER BY id")
    with engine_of(database_url) as engine:

        def read() -> list[Any]:
            with engine.begin() as connection:
                return list(connection.execute(tasks))

        yield read


def plans(cutter: CuttingProxy, ask: Callable[[], TestResponse]) -> list[list[str]]:
    """Send a request; return a plan for each way to cut one of its statements."""
    cutter.statements = 0
    ask()
    return [["pass"] * number + [cut] for number in range(cutter.statements) for cut in CUTS]


@pytest.mark.direct
def test_a_request_survives_the_loss_of_all_connections(
    app: Flask, alice: Caller, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if none of them was idle long enough to be checked."""
    taken: list[Any] = [database_of(app).connections.take() for _ in range(5)]
    processes = {connection.get_backend_pid() for connection in taken}
    for connection in taken:
        connection.close()
    monkeypatch.setattr(connections, "IDLE", 60)
    for process in processes:
        assert rows_of(database_url, "SELECT pg_terminate_backend(:it, 5000)", it=process) == [True]
    assert alice.get("/api/tasks").status_code == 200


@pytest.mark.parametrize("beginning", [b"application_name", b"PREPARE "])
@pytest.mark.parametrize("name", ["put", "mark all"])
def test_any_request_survives_a_loss_before_its_statement_was_sent(
    cutter: CuttingProxy,
    make_app: MakeApp,
    databases: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    beginning: bytes,
) -> None:
    """While connecting or preparing the statement."""
    task = Caller(make_app(DATABASE_URL=databases["postgresql"]).test_client(), "alice").create()
    status, request = WRITES[name]
    monkeypatch.setattr(proxies, "STATEMENT", re.compile(beginning))
    for cut in CUTS:
        cutter.plan.append(cut)
        assert request(Caller(make_app().test_client(), "alice"), task).status_code == status
        assert not cutter.plan


@pytest.mark.parametrize("name", READS)
def test_reads_are_retried(cutter: CuttingProxy, alice: Caller, rows: Callable[[], list[Any]], name: str) -> None:
    status, read = READS[name]
    task = alice.create("Kept")
    stored = rows()
    expected = read(alice, task)
    assert expected.status_code == status
    for plan in plans(cutter, lambda: read(alice, task)):
        cutter.plan.extend(plan)
        answer = read(alice, task)
        assert (answer.status_code, answer.data) == (status, expected.data), plan
        assert answer.headers.get("ETag") == expected.headers.get("ETag")
        assert not cutter.plan
    assert rows() == stored


@pytest.mark.parametrize("send", CREATIONS.values(), ids=CREATIONS)
def test_a_retried_creation_makes_exactly_one_task(
    cutter: CuttingProxy, alice: Caller, database_url: str, rows: Callable[[], list[Any]], send: Request
) -> None:
    for plan in plans(cutter, lambda: send(alice, {})):
        rows_of(database_url, "DELETE FROM users")
        cutter.plan.extend(plan)
        answer = send(alice, {})
        assert answer.status_code == 201, (plan, answer.text)
        assert "Idempotency-Replayed" not in answer.headers
        assert not cutter.plan
        assert [str(row.id) for row in rows()] == [(answer.json or {})["id"]]
        assert alice.get(answer.headers["Location"]).json == answer.json


@pytest.mark.parametrize("send", CREATIONS.values(), ids=CREATIONS)
def test_a_retried_creation_counts_once_against_the_limit(
    cutter: CuttingProxy, make_app: MakeApp, rows: Callable[[], list[Any]], send: Request
) -> None:
    alice = Caller(make_app(MAX_TASKS_PER_USER="2").test_client(), "alice")
    alice.create("Kept")
    cutter.plan.append("after")
    answer = send(alice, {})
    assert answer.status_code == 201, answer.text
    assert "Idempotency-Replayed" not in answer.headers
    assert [row.title for row in rows()] == ["Kept", "New"]
    assert_error(alice.post("/api/tasks", json={"title": "Too many"}), 422, "TASK_LIMIT_REACHED")


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("name", WRITES)
def test_other_writes_are_not_retried_and_get_503(
    cutter: CuttingProxy, alice: Caller, rows: Callable[[], list[Any]], name: str, cut: str
) -> None:
    status, write = WRITES[name]
    task = alice.create("Kept")
    stored = rows()
    cutter.statements = 0
    cutter.plan.append(cut)
    answer = write(alice, task)
    assert_error(answer, 503, "DATABASE_UNAVAILABLE")
    assert answer.headers["Retry-After"]
    assert cutter.statements == 1
    assert (rows() == stored) == (cut == "before")
    assert alice.get("/api/tasks").status_code == 200
    if cut == "before":
        assert write(alice, task).status_code == status


@pytest.mark.parametrize("cut", CUTS)
def test_the_service_stays_ready(cutter: CuttingProxy, app: Flask, cut: str) -> None:
    client = app.test_client()
    Caller(client, "alice").get("/api/tasks")
    cutter.plan.append(cut)
    assert client.get("/health/ready").status_code == 200
    assert not cutter.plan


@pytest.mark.parametrize("cut", CUTS)
def test_the_reason_why_a_write_found_nothing_is_retried(
    cutter: CuttingProxy, bob: Caller, alice: Caller, cut: str
) -> None:
    task = alice.create("Kept")
    for user, answers in ((bob, (403, "TASK_FORBIDDEN")), (alice, (412, "PRECONDITION_FAILED"))):
        cutter.plan.extend(["pass", cut])
        assert_error(user.delete(task_at(task), headers={"If-Match": '"old"'}), *answers)
        assert not cutter.plan


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the retries, which only their pauses move forward."""
    monkeypatch.setattr(execution, "RETRY_WINDOW", RETRY_WINDOW)
    clock = replace_clock(monkeypatch, execution)

    def pause(seconds: float) -> None:
        clock.ahead += seconds

    monkeypatch.setattr(clock, "sleep", pause)
    return clock


def seconds_to_fail(clock: Clock, send: Callable[..., TestResponse], *about: Any) -> float:
    began = clock.monotonic()
    answer = send(*about)
    assert_error(answer, 503, "DATABASE_UNAVAILABLE")
    assert answer.headers["Retry-After"]
    return clock.monotonic() - began


def is_a_window(seconds: float) -> bool:
    assert RETRY_WINDOW == 2
    return RETRY_WINDOW < seconds < RETRY_WINDOW + 3 * execution.RETRY_PAUSE


@pytest.mark.parametrize(("name", "cut"), [("get", "before"), ("create", "before"), ("create with a key", "after")])
def test_a_request_is_retried_with_pauses_until_the_window_ends(
    cutter: CuttingProxy,
    alice: Caller,
    rows: Callable[[], list[Any]],
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    cut: str,
) -> None:
    """Behind a pooler, connecting always succeeds, and statements are lost until its server is back."""
    status, send = ALL[name]
    task = alice.create("Kept")
    send(alice, task)  # so that all is prepared
    cutter.plan.extend([cut] * LOSSES)
    assert send(alice, task).status_code == status
    assert not cutter.plan
    # The first retry comes at once. Behind a pooler, each new connection has a stale statement, too.
    assert round(clock.ahead / execution.RETRY_PAUSE) == (LOSSES - 1) * (2 if WANTED else 1)
    stored = rows()
    cutter.plan.extend(["before"] * 1000)
    clock.ahead += 1  # so that the last answer is older than the request
    assert is_a_window(seconds_to_fail(clock, send, alice, task))
    pauses, may_go_on = Event(), Event()

    def pause(_: float) -> None:
        pauses.set()
        may_go_on.wait(30)

    monkeypatch.setattr(clock, "sleep", pause)
    with ThreadPoolExecutor(1) as thread:  # an outage: one request probes the database
        probing = thread.submit(seconds_to_fail, clock, send, alice, task)
        assert pauses.wait(30)
        sent = cutter.statements
        for _ in range(3):
            seconds_to_fail(clock, send, alice, task)
        assert cutter.statements == sent
        clock.ahead += 2 * execution.RETRY_WINDOW
        may_go_on.set()
        probing.result()
    cutter.plan.clear()
    assert rows() == stored
    assert alice.get(task_at(task)).status_code == 200


def test_a_connection_closed_while_idle_is_noticed_before_it_is_used(
    cutter: CuttingProxy, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change would not be retried."""
    monkeypatch.setattr(connections, "IDLE", IDLE)
    task = alice.create("Kept")
    status, put = WRITES["put"]
    put(alice, task)  # what is prepared first would be repeated
    time.sleep(2 * IDLE)
    cutter.close()
    cutter.listen()
    assert put(alice, task).status_code == status


@pytest.mark.parametrize(
    "server_message", [(b"N", b"WARNING", b"57P02"), (b"E", b"FATAL", b"57P01")], ids=["crash", "terminated"]
)
def test_a_server_that_stops_just_before_a_statement_counts_as_a_lost_connection(
    database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server_message: tuple[bytes, bytes, bytes]
) -> None:
    """The driver then raises an error without a code, or still reports the connection as open."""
    monkeypatch.setattr(connections, "was_closed", lambda _: False)  # it was not, a moment ago
    with TemporaryDirectory() as folder:  # a short path, as sockets need
        proxy = UnixSocketProxy(database_url, Path(folder))
        app = create_app(environ_for(proxy.url), tmp_path)
        alice = Caller(app.test_client(), "alice")
        for name in ("get", "create", "put"):
            task = alice.create("Kept")
            alice.put(task_at(task), json={"title": "Changed"})  # what is prepared first would be repeated
            proxy.end_connections(*server_message)
            status, send = ALL[name]
            if name in WRITES:
                assert_error(send(alice, task), 503, "DATABASE_UNAVAILABLE")
            else:
                assert send(alice, task).status_code == status
            assert alice.get("/api/tasks").status_code == 200
        dispose(app)
        proxy.close()


def test_in_each_outage_the_first_requests_wait_and_later_ones_fail_at_once(
    cutter: CuttingProxy, make_app: MakeApp, clock: Clock
) -> None:
    """A failed request returns its place in the pool."""
    app = make_app(DB_POOL_SIZE="1", DB_MAX_OVERFLOW="1", DB_POOL_TIMEOUT="1")
    alice = Caller(app.test_client(), "alice")
    task = alice.create("Kept")
    _, put = WRITES["put"]
    assert {answer.status_code for answer in at_once([lambda: alice.get("/api/tasks")] * 2)} == {200}
    for _ in range(2):
        cutter.close()
        assert is_a_window(seconds_to_fail(clock, put, alice, task))
        for _ in range(4):
            assert seconds_to_fail(clock, alice.get, task_at(task)) == 0
        cutter.listen()
        cutter.plan.append("after")  # the request that finds the database back is retried as well
        assert alice.get(task_at(task)).json == task
        assert not cutter.plan


def test_requests_survive_a_short_outage(cutter: CuttingProxy, alice: Caller) -> None:
    task = alice.create("Kept")
    expected, sends = zip(*(ALL[name] for name in ("get", "create", "put")), strict=True)
    cutter.close()
    with ThreadPoolExecutor(3) as threads:
        answers = [threads.submit(send, alice, task) for send in sends]
        time.sleep(0.2)
        cutter.listen()
        assert tuple(answer.result(20).status_code for answer in answers) == expected


# Raises an error inside the statement's transaction, which is rolled back.
FAILING_FUNCTION = """CREATE FUNCTION fail_write() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF nextval('write_failures') <= {times} THEN RAISE EXCEPTION 'failed' USING ERRCODE = '{code}'; END IF;
    RETURN coalesce(NEW, OLD); END $$"""
TRIGGER = (
    "CREATE TRIGGER fail_write BEFORE INSERT OR UPDATE OR DELETE ON tasks FOR EACH ROW EXECUTE FUNCTION fail_write()"
)


@pytest.fixture
def fail_writes(database_url: str) -> Iterator[Callable[[str, int], None]]:
    """Make the next writes to tasks fail with an SQLSTATE, this many times."""

    def run(*statements: str) -> None:
        for statement in statements:
            rows_of(database_url, statement)

    undo = ("DROP FUNCTION IF EXISTS fail_write CASCADE", "DROP SEQUENCE IF EXISTS write_failures")

    def fail(code: str, times: int) -> None:
        run(*undo, "CREATE SEQUENCE write_failures", "GRANT USAGE ON SEQUENCE write_failures TO PUBLIC")
        run(FAILING_FUNCTION.format(code=code, times=times), TRIGGER)

    yield fail
    run(*undo)


@pytest.mark.one_server
@pytest.mark.parametrize(("name", "code"), [("create", "40P01"), ("put", "40001"), ("delete all", "40P01")])
def test_a_deadlock_or_serialization_failure_is_retried_a_limited_number_of_times(
    fail_writes: Callable[[str, int], None], alice: Caller, rows: Callable[[], list[Any]], name: str, code: str
) -> None:
    status, send = ALL[name]
    task = alice.create("Kept")
    stored = rows()
    fail_writes(code, execution.MAX_RETRIES + 1)
    assert_error(send(alice, task), 503, "DATABASE_UNAVAILABLE")
    assert rows() == stored
    fail_writes(code, execution.MAX_RETRIES)
    assert send(alice, task).status_code == status
    assert rows() != stored


@pytest.mark.one_server
def test_an_unknown_sqlstate_is_not_a_lost_connection(fail_writes: Callable[[str, int], None], alice: Caller) -> None:
    task = alice.create("Kept")
    fail_writes("ZZ000", 1)
    assert_error(alice.put(task_at(task), json={"title": "Put"}), 500, "INTERNAL_ERROR")
    assert alice.get(task_at(task)).json == task


@pytest.mark.direct
def test_writes_on_a_standby_get_503_until_a_new_connection_finds_the_primary(
    app: Flask, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = alice.create("Kept")
    connection = database_of(app).connections.take()  # the one that the next request gets
    connection.cursor().execute("SET default_transaction_read_only = on")
    connection.close()
    for seconds in (60, 0):  # a young connection is kept: a new one would reach the same server
        monkeypatch.setattr(connections, "STANDBY_RETRY", seconds)
        assert_error(alice.delete(task_at(task)), 503, "DATABASE_UNAVAILABLE")
        assert alice.get("/api/tasks").json == [task]
    assert alice.delete(task_at(task)).status_code == 204
