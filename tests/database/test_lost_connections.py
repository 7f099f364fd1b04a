"""Connections to the database that are lost: before a statement arrives, or before its answer comes back."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text
from werkzeug.test import TestResponse

from tests.conftest import NOWHERE, Caller, MakeApp, assert_error, dispose, environ_for
from tests.support import wires
from tests.support.databases import engine_of, rows_of
from tests.support.statements import database_of
from tests.support.threads import at_once
from tests.support.wires import Cutter, Socket
from todo_api import create_app
from todo_api.database import connections, execution

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)

CUTS = ("before", "after")
WINDOW = 0.4
IDLE = connections.IDLE
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
    "get a missing task": (404, lambda user, _: user.get(task_at({"id": NOWHERE}))),
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
    """But a new one."""
    monkeypatch.setattr(connections, "IDLE", 1e-9)


@pytest.fixture
def cutter(database_url: str) -> Iterator[Cutter]:
    cutter = Cutter(database_url)
    yield cutter
    cutter.close()


@pytest.fixture
def make_app(cutter: Cutter, tmp_path: Path) -> Iterator[MakeApp]:
    """Make an application that reaches its database over the cutter."""
    made = []

    def make(**settings: str) -> Any:
        made.append(create_app(environ_for(cutter.url, **settings), tmp_path))
        return made[-1]

    yield make
    for app in made:
        dispose(app)


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app()


@pytest.fixture
def rows(database_url: str) -> Iterator[Callable[[], list[Any]]]:
    """Read all tasks, not over the cutter."""
    tasks = text("SELECT id, title, is_completed, updated_at FROM tasks ORDER BY id")
    with engine_of(database_url) as engine:

        def read() -> list[Any]:
            with engine.begin() as connection:
                return list(connection.execute(tasks))

        yield read


def plans(cutter: Cutter, ask: Callable[[], TestResponse]) -> list[list[str]]:
    """Send a request, and return every plan that cuts one of the statements that it took."""
    cutter.statements = 0
    ask()
    return [["pass"] * number + [cut] for number in range(cutter.statements) for cut in CUTS]


def test_one_request_outlives_the_end_of_all_connections(
    app: Flask, alice: Caller, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are, none of them looking idle."""
    taken: list[Any] = [database_of(app).connections.take() for _ in range(5)]
    processes = {connection.get_backend_pid() for connection in taken}
    for connection in taken:
        connection.close()
    monkeypatch.setattr(connections, "IDLE", 60)
    for process in processes:
        assert rows_of(database_url, "SELECT pg_terminate_backend(:it, 5000)", it=process) == [True]
    assert alice.get("/api/tasks").status_code == 200


@pytest.mark.parametrize("beginning", [b"application_name", b"pg_backend_pid", b"PREPARE "])
@pytest.mark.parametrize("name", ["put", "mark all"])
def test_what_comes_before_a_statement_may_be_cut_off_whatever_that_is(
    cutter: Cutter,
    make_app: MakeApp,
    databases: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    beginning: bytes,
) -> None:
    """A connection is made and asked for its process, and the statement is prepared on it."""
    task = Caller(make_app(DATABASE_URL=databases["postgresql"]).test_client(), "alice").create()
    status, request = WRITES[name]
    monkeypatch.setattr(wires, "STATEMENT", beginning)
    for cut in CUTS:
        cutter.plan.append(cut)
        assert request(Caller(make_app().test_client(), "alice"), task).status_code == status
        assert not cutter.plan


@pytest.mark.parametrize("name", READS)
def test_a_read_is_answered_as_if_nothing_had_happened(
    cutter: Cutter, alice: Caller, rows: Callable[[], list[Any]], name: str
) -> None:
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
def test_the_creation_of_a_users_first_task_makes_exactly_one(
    cutter: Cutter, alice: Caller, database_url: str, rows: Callable[[], list[Any]], send: Request
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
def test_a_creation_that_took_the_last_place_is_no_creation_too_many(
    cutter: Cutter, make_app: MakeApp, rows: Callable[[], list[Any]], send: Request
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
def test_any_other_write_says_that_it_is_unknown_and_is_there_once_at_most(
    cutter: Cutter, alice: Caller, rows: Callable[[], list[Any]], name: str, cut: str
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
def test_a_cut_does_not_make_the_service_unready(cutter: Cutter, app: Flask, cut: str) -> None:
    client = app.test_client()
    Caller(client, "alice").get("/api/tasks")
    cutter.plan.append(cut)
    assert client.get("/health/ready").status_code == 200
    assert not cutter.plan


@pytest.mark.parametrize("cut", CUTS)
def test_why_a_write_found_nothing_is_asked_again(cutter: Cutter, bob: Caller, alice: Caller, cut: str) -> None:
    task = alice.create("Kept")
    for user, answers in ((bob, (403, "TASK_FORBIDDEN")), (alice, (412, "PRECONDITION_FAILED"))):
        cutter.plan.extend(["pass", cut])
        assert_error(user.delete(task_at(task), headers={"If-Match": '"old"'}), *answers)
        assert not cutter.plan


@pytest.mark.parametrize(("name", "cut"), [("get", "before"), ("create", "before"), ("create with a key", "after")])
def test_a_request_outlives_as_many_cuts_as_it_may_and_then_fails(
    cutter: Cutter, alice: Caller, rows: Callable[[], list[Any]], name: str, cut: str
) -> None:
    status, send = ALL[name]
    task = alice.create("Kept")
    cutter.plan.extend([cut] * (execution.MAX_RETRIES + 1))
    assert_error(send(alice, task), 503, "DATABASE_UNAVAILABLE")
    assert not cutter.plan
    cutter.plan.extend([cut] * execution.MAX_RETRIES)
    assert send(alice, task).status_code == status
    assert not cutter.plan
    assert [row.title for row in rows()] == ["Kept"] + ["New"] * (name != "get")


def test_a_connection_that_was_cut_while_it_idled_costs_no_request_anything(
    cutter: Cutter, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked at before it is used; a write could not be repeated."""
    monkeypatch.setattr(connections, "IDLE", IDLE)
    task = alice.create("Kept")
    status, put = WRITES["put"]
    put(alice, task)  # what is prepared first would be repeated
    time.sleep(2 * IDLE)
    cutter.close()
    cutter.listen()
    assert put(alice, task).status_code == status


@pytest.mark.parametrize(
    "last_words", [(b"N", b"WARNING", b"57P02"), (b"E", b"FATAL", b"57P01")], ids=["crash", "terminated"]
)
def test_a_database_that_ends_just_before_a_statement_is_sent_has_lost_the_connection(
    database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, last_words: tuple[bytes, bytes, bytes]
) -> None:
    """The driver then raises an error without a code, or calls the connection open still."""
    monkeypatch.setattr(connections, "was_closed", lambda _: False)  # it was not, a moment ago
    with TemporaryDirectory() as folder:  # a short path, as sockets need
        wire = Socket(database_url, Path(folder))
        app = create_app(environ_for(wire.url), tmp_path)
        alice = Caller(app.test_client(), "alice")
        for name in ("get", "create", "put"):
            task = alice.create("Kept")
            alice.put(task_at(task), json={"title": "Changed"})  # what is prepared first would be repeated
            wire.die(*last_words)
            status, send = ALL[name]
            if name in WRITES:
                assert_error(send(alice, task), 503, "DATABASE_UNAVAILABLE")
            else:
                assert send(alice, task).status_code == status
            assert alice.get("/api/tasks").status_code == 200
        dispose(app)
        wire.close()


def seconds_to_fail(send: Callable[..., TestResponse], *about: Any) -> float:
    began = time.monotonic()
    answer = send(*about)
    assert_error(answer, 503, "DATABASE_UNAVAILABLE")
    assert answer.headers["Retry-After"]
    return time.monotonic() - began


def test_while_the_database_is_away_the_first_requests_wait_and_later_ones_fail_at_once(
    cutter: Cutter, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time anew, with one connection or several; and none of them keeps a place in the pool."""
    monkeypatch.setattr(execution, "RETRY_WINDOW", WINDOW)
    app = make_app(DB_POOL_SIZE="1", DB_MAX_OVERFLOW="1", DB_POOL_TIMEOUT="1")
    alice = Caller(app.test_client(), "alice")
    task = alice.create("Kept")
    _, put = WRITES["put"]
    assert {answer.status_code for answer in at_once([lambda: alice.get("/api/tasks")] * 2)} == {200}
    for _ in range(2):
        cutter.close()
        assert WINDOW < seconds_to_fail(put, alice, task) < WINDOW + 2
        for _ in range(4):
            assert seconds_to_fail(alice.get, task_at(task)) < WINDOW
        cutter.listen()
        cutter.plan.append("after")  # the request that finds out outlives a cut as others do
        assert alice.get(task_at(task)).json == task
        assert not cutter.plan


def test_a_database_that_is_back_in_time_costs_waiting_requests_no_error(cutter: Cutter, alice: Caller) -> None:
    task = alice.create("Kept")
    expected, sends = zip(*(ALL[name] for name in ("get", "create", "put")), strict=True)
    cutter.close()
    with ThreadPoolExecutor(3) as threads:
        answers = [threads.submit(send, alice, task) for send in sends]
        time.sleep(0.2)
        cutter.listen()
        assert tuple(answer.result(20).status_code for answer in answers) == expected


# What the database raises inside the transaction of a statement; all is undone.
REFUSING = """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF nextval('refusals') <= {times} THEN RAISE EXCEPTION 'refused' USING ERRCODE = '{code}'; END IF;
    RETURN coalesce(NEW, OLD); END $$"""
TRIGGER = "CREATE TRIGGER refuse BEFORE INSERT OR UPDATE OR DELETE ON tasks FOR EACH ROW EXECUTE FUNCTION refuse()"


@pytest.fixture
def refuse(database_url: str) -> Iterator[Callable[[str, int], None]]:
    """Let the next writes to tasks be rolled back with an SQLSTATE, so many times."""

    def run(*statements: str) -> None:
        for statement in statements:
            rows_of(database_url, statement)

    undo = ("DROP FUNCTION IF EXISTS refuse CASCADE", "DROP SEQUENCE IF EXISTS refusals")

    def begin(code: str, times: int) -> None:
        run(*undo, "CREATE SEQUENCE refusals", REFUSING.format(code=code, times=times), TRIGGER)

    yield begin
    run(*undo)


@pytest.mark.parametrize(("name", "code"), [("create", "40P01"), ("put", "40001"), ("delete all", "40P01")])
def test_what_the_database_rolled_back_is_run_again_and_not_for_ever(
    refuse: Callable[[str, int], None], alice: Caller, rows: Callable[[], list[Any]], name: str, code: str
) -> None:
    """After a deadlock, or as transactions could not be serialized."""
    status, send = ALL[name]
    task = alice.create("Kept")
    stored = rows()
    refuse(code, execution.MAX_RETRIES + 1)
    assert_error(send(alice, task), 503, "DATABASE_UNAVAILABLE")
    assert rows() == stored
    refuse(code, execution.MAX_RETRIES)
    assert send(alice, task).status_code == status
    assert rows() != stored


def test_an_error_that_the_driver_knows_no_class_for_is_no_lost_connection(
    refuse: Callable[[str, int], None], alice: Caller
) -> None:
    task = alice.create("Kept")
    refuse("ZZ000", 1)
    assert_error(alice.put(task_at(task), json={"title": "Put"}), 500, "INTERNAL_ERROR")
    assert alice.get(task_at(task)).json == task


def test_a_standby_is_unavailable_for_writes(app: Flask, alice: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    task = alice.create("Kept")
    connection = database_of(app).connections.take()  # the one that the next request gets
    connection.cursor().execute("SET default_transaction_read_only = on")
    connection.close()
    for seconds in (60, 0):  # where there is nothing but standbys a write costs no connection
        monkeypatch.setattr(connections, "STANDBY_RETRY", seconds)
        assert_error(alice.delete(task_at(task)), 503, "DATABASE_UNAVAILABLE")
        assert alice.get("/api/tasks").json == [task]
    assert alice.delete(task_at(task)).status_code == 204, "a new connection finds who took over"
