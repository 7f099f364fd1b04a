"""Connections to the database that are lost: before a statement arrives, or before its answer comes back."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Barrier
from typing import Any

import pytest
from flask import Flask
from psycopg2.errors import DeadlockDetected, SerializationFailure
from sqlalchemy import text
from werkzeug.test import TestResponse

from tests.conftest import Caller, MakeApp, assert_error, dispose, environ_for
from tests.support import wires
from tests.support.databases import engine_of, rows_of
from tests.support.wires import Cutter, Socket
from todo_api import create_app
from todo_api.database import execution as database
from todo_api.extensions import db

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)

CUTS = ("before", "after")
PATIENCE = 0.4
IDLE = database.IDLE_SECONDS
Request = Callable[[Caller, dict[str, Any]], TestResponse]


def task_at(task: dict[str, Any]) -> str:
    return f"/api/tasks/{task['id']}"


def create(user: Caller, _: dict[str, Any], **headers: str) -> TestResponse:
    return user.post("/api/tasks", json={"title": "New"}, headers=headers)


def known_list(user: Caller, _: dict[str, Any]) -> TestResponse:
    tag = user.get("/api/tasks?limit=1").headers["ETag"]
    return user.get("/api/tasks?limit=1", headers={"If-None-Match": tag})


READS: dict[str, tuple[int, Request]] = {
    "get": (200, lambda user, task: user.get(task_at(task))),
    "get a missing task": (404, lambda user, task: user.get(task_at({"id": task["id"][::-1]}))),
    "list": (200, lambda user, _: user.get("/api/tasks")),
    "list with the total": (200, lambda user, _: user.get("/api/tasks?limit=1&include_total=true")),
    "list that is known": (304, known_list),
    "list that has changed": (200, lambda user, _: user.get("/api/tasks", headers={"If-None-Match": '"old"'})),
    "change nothing": (200, lambda user, task: user.patch(task_at(task), json={})),
    "change nothing of an old version": (
        412,
        lambda user, task: user.put(task_at(task), json={}, headers={"If-Match": '"old"'}),
    ),
}
CREATIONS: dict[str, tuple[str, Request]] = {
    "create": ("alice", create),
    "create with a key": ("alice", lambda user, task: create(user, task, Idempotency_Key="k")),
    "create a user's first task": ("newcomer", create),
    "create a user's first task with a key": ("newcomer", lambda user, task: create(user, task, Idempotency_Key="k")),
}
WRITES: dict[str, tuple[int, Request]] = {
    "put": (200, lambda user, task: user.put(task_at(task), json={"title": "Put"})),
    "patch": (200, lambda user, task: user.patch(task_at(task), json={"is_completed": True})),
    "delete": (204, lambda user, task: user.delete(task_at(task))),
    "mark all": (200, lambda user, _: user.patch("/api/tasks?is_completed=false", json={"is_completed": True})),
    "delete all": (200, lambda user, _: user.delete("/api/tasks?is_completed=false")),
}


@pytest.fixture(autouse=True)
def _every_connection_counts_as_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "IDLE_SECONDS", 0)


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
    alice.create()
    own: database.Database = app.extensions["ownership"].database
    entries = [own._take(time.monotonic()) for _ in range(5)]
    made = {entry.dbapi_connection.get_backend_pid() for entry in entries}
    for entry in entries:
        own._give_back(entry)
    monkeypatch.setattr(database, "IDLE_SECONDS", 60)
    for process in made:
        assert rows_of(database_url, "SELECT pg_terminate_backend(:it, 5000)", it=process) == [True]
    assert alice.get("/api/tasks").status_code == 200


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("beginning", [b"pg_catalog.version", b"pg_backend_pid", b"PREPARE "])
@pytest.mark.parametrize("name", ["get", "list", "change nothing", *WRITES])
def test_what_comes_before_a_statement_may_be_cut_off_whatever_that_is(
    cutter: Cutter,
    app: Flask,
    databases: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    beginning: bytes,
    cut: str,
) -> None:
    """SQLAlchemy and we have questions to a new connection, and the statement is prepared on it."""
    other = create_app(environ_for(databases["postgresql"]), Path(app.instance_path))
    task = Caller(other.test_client(), "alice").create()
    status, request = (READS | WRITES)[name]
    monkeypatch.setattr(wires, "STATEMENT", beginning)
    cutter.plan.extend([cut])
    assert request(Caller(app.test_client(), "alice"), task).status_code == status
    assert not cutter.plan
    dispose(other)


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


@pytest.mark.parametrize("name", CREATIONS)
def test_a_creation_makes_exactly_one_task(
    cutter: Cutter, make_app: MakeApp, database_url: str, rows: Callable[[], list[Any]], name: str
) -> None:
    user, send = CREATIONS[name]
    app = make_app()
    Caller(app.test_client(), "alice").create("Kept")
    caller = Caller(app.test_client(), user)
    for plan in plans(cutter, lambda: send(caller, {})):
        forget(database_url, but="Kept" if user == "alice" else "")
        cutter.plan.extend(plan)
        answer = send(caller, {})
        assert answer.status_code == 201, (plan, answer.text)
        assert "Idempotency-Replayed" not in answer.headers
        assert not cutter.plan
        made = answer.json
        assert made
        assert [str(row.id) for row in rows() if row.title == "New"] == [made["id"]]
        assert caller.get(answer.headers["Location"]).json == made


def forget(database_url: str, but: str) -> None:
    """Delete all tasks but one, and the users without any."""
    rows_of(database_url, "DELETE FROM tasks WHERE title <> :but", but=but)
    rows_of(database_url, "DELETE FROM users WHERE id NOT IN (SELECT user_id FROM tasks)")


@pytest.mark.parametrize("key", [{}, {"Idempotency-Key": "k"}], ids=["without a key", "with a key"])
def test_a_creation_that_took_the_last_place_is_no_creation_too_many(
    cutter: Cutter, make_app: MakeApp, rows: Callable[[], list[Any]], key: dict[str, str]
) -> None:
    alice = Caller(make_app(MAX_TASKS_PER_USER="2").test_client(), "alice")
    alice.create("Kept")
    cutter.plan.append("after")
    answer = alice.post("/api/tasks", json={"title": "Last"}, headers=key)
    assert answer.status_code == 201, answer.text
    assert "Idempotency-Replayed" not in answer.headers
    assert [row.title for row in rows()] == ["Kept", "Last"]
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
def test_a_cut_does_not_make_the_service_unready(cutter: Cutter, app: Any, cut: str) -> None:
    client = app.test_client()
    assert client.get("/health/live").status_code == 200
    Caller(client, "alice").get("/api/tasks")
    cutter.plan.append(cut)
    assert client.get("/health/ready").status_code == 200
    assert not cutter.plan


@pytest.mark.parametrize("cut", CUTS)
def test_why_a_write_found_nothing_is_asked_again(cutter: Cutter, app: Any, alice: Caller, cut: str) -> None:
    task = alice.create("Kept")
    bob = Caller(app.test_client(), "bob")
    for user, answers in ((bob, (403, "TASK_FORBIDDEN")), (alice, (412, "PRECONDITION_FAILED"))):
        for method, more in (("PUT", {"json": {"title": "New"}}), ("DELETE", {})):
            cutter.plan.extend(["pass", cut])
            assert_error(user(method, task_at(task), headers={"If-Match": '"old"'}, **more), *answers)
            assert not cutter.plan


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("name", ["get", "create", "create with a key"])
def test_a_request_outlives_as_many_cuts_as_it_may_and_then_fails(
    cutter: Cutter, alice: Caller, rows: Callable[[], list[Any]], name: str, cut: str
) -> None:
    send = (READS | CREATIONS)[name][1]
    task = alice.create("Kept")
    cutter.plan.extend([cut] * (database.REPEATS + 1))
    assert_error(send(alice, task), 503, "DATABASE_UNAVAILABLE")
    assert not cutter.plan
    cutter.plan.extend([cut] * database.REPEATS)
    assert send(alice, task).status_code in (200, 201)
    assert not cutter.plan
    # Without a key the client cannot say that the second call means the first one's task.
    failed = 1 if (name, cut) == ("create", "after") else 0
    assert [row.title for row in rows()] == ["Kept"] + ["New"] * (failed + (name != "get"))


def test_a_connection_that_idled_is_looked_at_before_it_is_used(
    cutter: Cutter, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "IDLE_SECONDS", IDLE)
    task = alice.create("Kept")
    status, put = WRITES["put"]
    put(alice, task)  # what is prepared first would be repeated
    time.sleep(2 * IDLE)
    cutter.close()
    cutter.listen()
    assert put(alice, task).status_code == status


def test_a_connection_that_was_cut_while_it_idled_costs_no_request_anything(cutter: Cutter, alice: Caller) -> None:
    for status, send in [*READS.values(), *[(201, send) for _, send in CREATIONS.values()], *WRITES.values()]:
        forget(cutter.there.render_as_string(hide_password=False), but="")
        task = alice.create("Kept")
        cutter.close()
        cutter.listen()
        assert send(alice, task).status_code == status


@pytest.mark.parametrize(
    "last_words", [(b"N", b"WARNING", b"57P02"), (b"E", b"FATAL", b"57P01")], ids=["crash", "terminated"]
)
def test_a_database_that_ends_just_before_a_statement_is_sent_has_lost_the_connection(
    database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, last_words: tuple[bytes, bytes, bytes]
) -> None:
    """The driver then raises an error without a code, or calls the connection open still."""
    monkeypatch.setattr(database.Database, "_was_hung_up", lambda *_: False)  # it was not, a moment ago
    with TemporaryDirectory() as folder:  # a short path, as sockets need
        wire = Socket(database_url, Path(folder))
        app = create_app(environ_for(wire.url), tmp_path)
        alice = Caller(app.test_client(), "alice")
        task = alice.create("Kept")
        for name in ("get", "create", "create with a key", "put", "delete"):
            other = alice.create("Other")
            alice.put(task_at(other), json={"title": "Changed"})  # what is prepared first would be repeated
            alice.delete(task_at(other))
            wire.die(*last_words)
            answer = (READS | CREATIONS | WRITES)[name][1](alice, task)
            if name in WRITES:
                assert_error(answer, 503, "DATABASE_UNAVAILABLE")
            else:
                assert answer.status_code in (200, 201), answer.text
            assert alice.get("/api/tasks").status_code == 200
        dispose(app)
        wire.close()


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "PATIENCE_SECONDS", PATIENCE)


def seconds_to_fail(send: Callable[..., TestResponse], *about: Any) -> float:
    began = time.monotonic()
    answer = send(*about)
    assert_error(answer, 503, "DATABASE_UNAVAILABLE")
    assert answer.headers["Retry-After"]
    return time.monotonic() - began


@pytest.mark.usefixtures("patience")
def test_while_the_database_is_away_the_first_requests_wait_and_later_ones_fail_at_once(
    cutter: Cutter, alice: Caller
) -> None:
    task = alice.create("Kept")
    several = Barrier(3)

    def one_of_several(_: int) -> int:
        several.wait(10)
        return alice.get("/api/tasks").status_code

    with ThreadPoolExecutor(3) as threads:  # so that more than one connection idles in the pool
        assert list(threads.map(one_of_several, range(3))) == [200] * 3
    for status, send in WRITES.values():
        cutter.close()
        assert PATIENCE < seconds_to_fail(send, alice, task) < PATIENCE + 2
        for _ in range(4):
            assert seconds_to_fail(alice.get, task_at(task)) < PATIENCE
        cutter.listen()
        assert send(alice, task).status_code == status
        task = alice.create("Kept")


def test_a_database_that_is_back_in_time_costs_waiting_requests_no_error(cutter: Cutter, alice: Caller) -> None:
    task = alice.create("Kept")
    sends = [lambda: alice.get(task_at(task)), lambda: create(alice, {}), lambda: WRITES["put"][1](alice, task)]
    cutter.close()
    with ThreadPoolExecutor(3) as threads:
        answers = [threads.submit(send) for send in sends]
        time.sleep(0.3)
        cutter.listen()
        assert [answer.result(20).status_code for answer in answers] == [200, 201, 200]


@pytest.mark.usefixtures("patience")
def test_each_absence_is_met_with_the_same_patience_and_takes_no_place_in_the_pool(
    cutter: Cutter, make_app: MakeApp
) -> None:
    app = make_app(DB_POOL_SIZE="1", DB_MAX_OVERFLOW="0", DB_POOL_TIMEOUT="1")
    alice = Caller(app.test_client(), "alice")
    alice.create("Kept")
    for _ in range(2):
        cutter.close()
        assert seconds_to_fail(alice.get, "/api/tasks") > PATIENCE
        cutter.listen()
        assert alice.get("/api/tasks").status_code == 200


def test_the_request_that_looks_whether_it_is_back_outlives_a_cut_as_others_do(
    cutter: Cutter, app: Flask, alice: Caller
) -> None:
    task = alice.create("Kept")
    app.extensions["ownership"].database._away_since = time.monotonic() - 2 * database.PATIENCE_SECONDS
    cutter.plan.append("after")
    assert alice.get(task_at(task)).json == task
    assert not cutter.plan


# What the database raises inside the transaction of a statement; all is undone.
REFUSING = """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF nextval('refusals') <= {times} THEN RAISE EXCEPTION 'refused' USING ERRCODE = '{code}'; END IF;
    RETURN coalesce(NEW, OLD); END $$"""


@pytest.fixture
def refuse(database_url: str) -> Iterator[Callable[[str, int], None]]:
    """Let the next writes to tasks be rolled back with an SQLSTATE, so many times."""

    def run(*statements: str) -> None:
        for statement in statements:
            rows_of(database_url, statement)

    undo = ("DROP FUNCTION IF EXISTS refuse CASCADE", "DROP SEQUENCE IF EXISTS refusals")

    def begin(code: str, times: int) -> None:
        trigger = (
            "CREATE TRIGGER refuse BEFORE INSERT OR UPDATE OR DELETE ON tasks FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
        run(*undo, "CREATE SEQUENCE refusals", REFUSING.format(code=code, times=times), trigger)

    yield begin
    run(*undo)


@pytest.mark.parametrize("code", [DeadlockDetected, SerializationFailure])
@pytest.mark.parametrize("name", ["create", "create with a key", *WRITES])
def test_what_the_database_rolled_back_is_run_again_and_not_for_ever(
    refuse: Callable[[str, int], None], alice: Caller, rows: Callable[[], list[Any]], name: str, code: Any
) -> None:
    status, send = (WRITES | {name: (201, send) for name, (_, send) in CREATIONS.items()})[name]
    task = alice.create("Kept")
    stored = rows()
    sqlstate = {DeadlockDetected: "40P01", SerializationFailure: "40001"}[code]
    refuse(sqlstate, database.REPEATS + 1)
    assert_error(send(alice, task), 503, "DATABASE_UNAVAILABLE")
    assert rows() == stored
    refuse(sqlstate, database.REPEATS)
    assert send(alice, task).status_code == status
    assert rows() != stored


def test_an_error_that_the_driver_knows_no_class_for_is_no_lost_connection(
    refuse: Callable[[str, int], None], alice: Caller
) -> None:
    task = alice.create("Kept")
    refuse("ZZ000", 1)
    assert_error(alice.put(task_at(task), json={"title": "Put"}), 500, "INTERNAL_ERROR")
    assert alice.get(task_at(task)).json == task


def test_a_standby_is_unavailable_for_writes(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app()
    alice = Caller(app.test_client(), "alice")
    task = alice.create("Kept")
    with app.app_context():
        engine = db.engines["autocommit"]
    with engine.connect() as connection:  # the one that the next request gets
        connection.exec_driver_sql("SET default_transaction_read_only = on")
    for standby_seconds in (60, 0):  # where there is nothing but standbys a write costs no connection
        monkeypatch.setattr(database, "STANDBY_SECONDS", standby_seconds)
        assert_error(alice.delete(task_at(task)), 503, "DATABASE_UNAVAILABLE")
        assert alice.get("/api/tasks").json == [task]
    assert alice.delete(task_at(task)).status_code == 204, "a new connection finds who took over"


def test_connections_that_were_closed_while_they_idled_cost_no_client_an_error(
    make_app: MakeApp, migrated_database: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "IDLE_SECONDS", 0)
    url = migrated_database("closed")  # its own: other tests keep connections
    alice = Caller(make_app(DATABASE_URL=url).test_client(), "alice")
    path = f"/api/tasks/{alice.create('Kept')['id']}"
    for method, more, status in (("GET", {}, 200), ("PUT", {"json": {"title": "New"}}, 200), ("DELETE", {}, 204)):
        close_connections(url)
        assert alice(method, path, **more).status_code == status
    close_connections(url)
    assert alice.create("Another")["title"] == "Another"


def close_connections(database_url: str) -> None:
    """Let the database close all connections but this one, as a restart or a pooler does."""
    with engine_of(database_url, isolation_level="AUTOCOMMIT") as engine, engine.connect() as connection:
        others = "FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
        connection.execute(text(f"SELECT pg_terminate_backend(pid) {others}"))
        while connection.execute(text(f"SELECT 1 {others}")).first():
            pass
