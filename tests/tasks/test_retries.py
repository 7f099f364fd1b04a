"""Safe retries: a creation that is sent again, by whomever and however often, makes one task."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from email.message import Message
from http.client import HTTPConnection, HTTPException
from itertools import count
from typing import Any, cast

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tests.conftest import Caller, MakeApp, assert_error
from tests.support.databases import rows_of
from tests.support.programs import Server, in_production, serving
from tests.support.threads import at_once
from tests.support.tokens import token

CLIENTS = 8
HARM_SECONDS = 4
PATIENCE_SECONDS = 60
RETRIERS = 50
BODY = {"title": "Buy milk"}
SAYS = "Must be one value of 1 to 255 visible ASCII characters, no comma."


def send(caller: Caller, key: Any = "key", body: Any = None, **more: Any) -> TestResponse:
    return caller.post("/api/tasks", json=BODY if body is None else body, headers={"Idempotency-Key": key}, **more)


def task_of(response: TestResponse, *, replayed: bool) -> dict[str, Any]:
    """The task of an answer 201, with all that belongs to it."""
    assert response.status_code == 201, response.text
    task = cast(dict[str, Any], response.json)
    assert response.headers["Location"] == f"/api/tasks/{task['id']}"
    assert response.headers["ETag"] == f'"{task["updated_at"]}"'
    assert response.headers.getlist("Idempotency-Replayed") == (["true"] if replayed else [])
    return task


def test_a_creation_sent_again_answers_with_the_task_it_made(alice: Caller) -> None:
    created = task_of(send(alice), replayed=False)
    for _ in range(2):
        assert task_of(send(alice), replayed=True) == created
    assert alice.get("/api/tasks").json == [created]


def test_without_a_key_and_under_other_keys_each_creation_makes_a_task(alice: Caller) -> None:
    tasks = [task_of(send(alice, key), replayed=False) for key in ("key", "Key", "key2", "ke", "'", "%", "_", "\\")]
    tasks += [alice.create("Buy milk") for _ in range(2)]
    assert len({task["id"] for task in tasks}) == len(alice.get("/api/tasks").json or []) == len(tasks)


SAME = [
    {"description": None},
    {"is_completed": False},
    {"is_completed": False, "description": None, "title": "Buy milk"},
    {"title": " \t Buy milk\u2003\n"},
    {"id": "other", "user_id": "bob", "created_at": 1, "updated_at": {}},
]
OTHER = [
    {"title": "Buy milk!"},
    {"title": "buy milk"},
    {"title": "Buy  milk"},
    {"description": ""},
    {"description": "null"},
    {"description": "None"},
    {"is_completed": True},
    {"title": 'Buy milk", "description": "x'},
]


@pytest.mark.parametrize("more", SAME)
def test_bodies_that_ask_for_the_same_task_are_the_same(alice: Caller, more: dict[str, Any]) -> None:
    created = task_of(send(alice), replayed=False)
    assert task_of(send(alice, body=BODY | more), replayed=True) == created
    assert task_of(send(alice, "reverse", BODY | more), replayed=False)["id"] != created["id"]
    task_of(send(alice, "reverse"), replayed=True)


def test_a_task_sent_back_under_its_key_is_the_same(alice: Caller) -> None:
    created = task_of(send(alice, body={"title": " x ", "description": " é🥛 ", "is_completed": True}), replayed=False)
    assert task_of(send(alice, body=created), replayed=True) == created
    assert task_of(send(alice, body=dict(reversed(created.items()))), replayed=True) == created


@pytest.mark.parametrize("more", OTHER)
def test_a_key_with_another_body_is_refused(alice: Caller, more: dict[str, Any]) -> None:
    created = task_of(send(alice), replayed=False)
    assert_error(send(alice, body=BODY | more), 422, "IDEMPOTENCY_KEY_REUSED")
    assert alice.get("/api/tasks").json == [created]
    assert task_of(send(alice), replayed=True) == created


@pytest.mark.parametrize("key", ["x", "0", "x" * 255, "!\"#$%&'()*+-./:;<=>?@[\\]^_`{|}~", "f81d4fae-7dec", '"quoted"'])
def test_a_key_is_1_to_255_visible_ascii_characters(alice: Caller, key: str) -> None:
    created = task_of(send(alice, key), replayed=False)
    assert task_of(send(alice, key), replayed=True) == created


MALFORMED = [
    "",
    " ",
    "x" * 256,
    "a b",
    " a",
    "a ",
    "a,b",
    ",",
    "a\tb",
    "\x7f",
    "é",
    "\x80",
    "\x01",
    ["a", "a"],
    ["a", "b"],
]


@pytest.mark.parametrize("key", [*MALFORMED, ["a", ""]])
def test_a_malformed_or_repeated_key_is_refused_by_name(alice: Caller, key: Any) -> None:
    body = assert_error(send(alice, key), 400, "VALIDATION_ERROR")
    assert body["errors"] == {"Idempotency-Key": [SAYS]}
    assert alice.get("/api/tasks").json == []


@pytest.mark.parametrize(
    ("more", "status", "code", "named"),
    [
        ({"data": "{}", "content_type": "text/plain"}, 415, "UNSUPPORTED_MEDIA_TYPE", None),
        ({"data": "{", "content_type": "application/json"}, 400, "MALFORMED_JSON", None),
        ({"json": {"title": ""}}, 400, "VALIDATION_ERROR", "title"),
    ],
)
def test_a_key_is_judged_after_the_body(
    alice: Caller, nobody: Caller, more: dict[str, Any], status: int, code: str, named: str | None
) -> None:
    for key in ("a,b", "good"):
        body = assert_error(alice.post("/api/tasks", headers={"Idempotency-Key": key}, **more), status, code)
        assert named is None or list(body["errors"]) == [named]
    assert_error(send(nobody, "a,b"), 401, "TOKEN_MISSING")
    task_of(send(alice, "good"), replayed=False)  # what was refused has not taken the key


@pytest.mark.parametrize("key", ["key", "a,b", "", "é"])
def test_a_key_means_nothing_to_other_methods(alice: Caller, key: str) -> None:
    path = f"/api/tasks/{task_of(send(alice), replayed=False)['id']}"
    headers = {"Idempotency-Key": key}
    assert alice.get("/api/tasks", headers=headers).status_code == 200
    assert alice.get(path, headers=headers).status_code == 200
    for title in ("one", "two"):
        for method in ("PUT", "PATCH"):
            answer = alice(method, path, json={"title": title}, headers=headers)
            assert (answer.status_code, (answer.json or {})["title"]) == (200, title)
            assert "Idempotency-Replayed" not in answer.headers
    assert alice.patch("/api/tasks?is_completed=false", json={"is_completed": True}, headers=headers).status_code == 200
    assert alice.delete("/api/tasks?is_completed=false", headers=headers).status_code == 200
    assert alice.delete(path, headers=headers).status_code == 204


def test_keys_are_each_users_own(alice: Caller, bob: Caller) -> None:
    hers = task_of(send(alice), replayed=False)
    his = task_of(send(bob, body={"title": "Something else"}), replayed=False)
    assert (hers["user_id"], his["user_id"]) == ("alice", "bob")
    assert task_of(send(alice), replayed=True) == hers
    assert_error(send(bob), 422, "IDEMPOTENCY_KEY_REUSED")
    assert bob.get("/api/tasks").json == [his]


def test_a_replay_shows_the_task_as_it_is_now(alice: Caller) -> None:
    created = task_of(send(alice), replayed=False)
    path = f"/api/tasks/{created['id']}"
    changed = alice.put(path, json={"title": "Changed", "description": "too", "is_completed": True}).json
    assert task_of(send(alice), replayed=True) == changed
    # Same or other is judged by what was sent then, not by what the task says now.
    assert_error(send(alice, body=changed), 422, "IDEMPOTENCY_KEY_REUSED")
    alice.patch("/api/tasks?is_completed=true", json={"is_completed": False})
    assert task_of(send(alice), replayed=True) == alice.get(path).json


@pytest.mark.parametrize("how", ["single", "bulk", "user"])
def test_a_key_is_free_once_its_task_is_deleted(app: Flask, alice: Caller, how: str) -> None:
    created = task_of(send(alice), replayed=False)
    if how == "single":
        assert alice.delete(f"/api/tasks/{created['id']}").status_code == 204
    elif how == "bulk":
        assert alice.delete("/api/tasks?is_completed=false").json == {"count": 1}
    else:
        assert app.test_cli_runner().invoke(args=["user-delete", "alice", "--yes"]).exit_code == 0
    again = task_of(send(alice, body={"title": "Another"}), replayed=False)
    assert again["id"] != created["id"]
    assert_error(send(alice), 422, "IDEMPOTENCY_KEY_REUSED")
    assert alice.get("/api/tasks").json == [again]


def test_at_the_limit_a_replay_is_answered_and_a_new_key_refused(make_app: MakeApp) -> None:
    alice = Caller(make_app(MAX_TASKS_PER_USER="2").test_client(), "alice")
    made = {key: task_of(send(alice, key), replayed=False) for key in ("first", "second")}
    for _ in range(2):
        for key, task in made.items():
            assert task_of(send(alice, key), replayed=True) == task
        assert_error(send(alice, "third"), 422, "TASK_LIMIT_REACHED")
        assert_error(send(alice, "first", {"title": "Other"}), 422, "IDEMPOTENCY_KEY_REUSED")
    alice.delete(f"/api/tasks/{made['first']['id']}")
    task_of(send(alice, "third"), replayed=False)  # refused, it has not been taken
    assert_error(send(alice, "first"), 422, "TASK_LIMIT_REACHED")


def test_without_a_limit_replays_are_the_same(make_app: MakeApp) -> None:
    alice = Caller(make_app(MAX_TASKS_PER_USER="0").test_client(), "alice")
    created = task_of(send(alice), replayed=False)
    assert task_of(send(alice), replayed=True) == created


def retries(app: Flask, bodies: list[dict[str, Any]], user: str = "alice") -> list[Callable[[], TestResponse]]:
    """One creation under the same key for each body, each by a client of its own."""

    def retry(body: dict[str, Any]) -> Callable[[], TestResponse]:
        caller = Caller(app.test_client(), user)
        return lambda: send(caller, body=body)

    return [retry(body) for body in bodies]


def one_task_of(answers: list[TestResponse]) -> dict[str, Any]:
    """The one task that all answers hold, which one of them made."""
    replays = ["Idempotency-Replayed" in answer.headers for answer in answers]
    tasks = [task_of(answer, replayed=replayed) for answer, replayed in zip(answers, replays, strict=True)]
    assert replays.count(False) == 1
    assert tasks == [tasks[0]] * len(tasks)
    return tasks[0]


@pytest.mark.parametrize("known", [True, False])
def test_simultaneous_creations_under_one_key_make_one_task(app: Flask, alice: Caller, known: bool) -> None:
    before = [alice.create("Before")] if known else []
    task = one_task_of(at_once(retries(app, [BODY] * RETRIERS)))
    assert alice.get("/api/tasks").json == [task, *before]


@pytest.mark.parametrize("known", [True, False])
def test_of_simultaneous_creations_with_two_bodies_the_winners_are_answered(
    app: Flask, alice: Caller, known: bool
) -> None:
    before = [alice.create("Before")] if known else []
    answers = at_once(retries(app, [{"title": title} for title in ("odd", "even")] * (RETRIERS // 2)))
    sides = [answers[::2], answers[1::2]]
    winners, losers = sides if answers[0].status_code == 201 else sides[::-1]
    for answer in losers:
        assert_error(answer, 422, "IDEMPOTENCY_KEY_REUSED")
    assert alice.get("/api/tasks").json == [one_task_of(winners), *before]


@pytest.mark.parametrize("limit", [1, 2])
def test_simultaneous_creations_under_one_key_share_the_last_place_below_the_limit(
    make_app: MakeApp, limit: int
) -> None:
    app = make_app(MAX_TASKS_PER_USER=str(limit))
    for user in ("alice", "bob", "carol", "dave"):
        caller = Caller(app.test_client(), user)
        before = [caller.create() for _ in range(limit - 1)]
        task = one_task_of(at_once(retries(app, [BODY] * RETRIERS, user)))
        assert caller.get("/api/tasks").json == [task, *before]


@pytest.fixture(scope="module")
def database(migrated_database: Callable[[str], str]) -> str:
    return migrated_database("retries")


@pytest.fixture(scope="module")
def server(database: str) -> Iterator[Server]:
    with serving(in_production(database)) as server:
        yield server


class Client:
    """Somebody who sends creation after creation, each under a key of its own and again until it is acknowledged."""

    def __init__(self, server: Server, user: str, name: int, *, drops: bool) -> None:
        self.port, self.user, self.name, self.drops = server.port, user, name, drops
        self.made: dict[str, str] = {}  # the id of the task by key
        self.failures = 0

    def send_until(self, over: threading.Event) -> dict[str, str]:
        for number in count():
            if over.is_set():
                return self.made
            key = f"{self.name}-{number}"
            self.made[key] = self._deliver(key)
            if number % 5 == 0:
                assert self._deliver(key) == self.made[key]
        raise AssertionError

    def _deliver(self, key: str) -> str:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if task_id := self._try(key):
                return task_id
            self.failures += 1
            time.sleep(0.02)
        raise AssertionError(f"{key} was not acknowledged")

    def _try(self, key: str) -> str | None:
        """Return the id of the task; None when the answer was 503 or, where that may be, did not come."""
        try:
            status, headers, answer = self._post(key)
        except (OSError, HTTPException):
            if not self.drops:
                raise
            return None
        if status == 503:
            assert (answer["error_code"], "Retry-After" in headers) == ("DATABASE_UNAVAILABLE", True)
            return None
        assert (status, answer.get("title")) == (201, key), answer
        return str(answer["id"])

    def _post(self, key: str) -> tuple[int, Message, Any]:
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            headers = {"Authorization": f"Bearer {token(self.user)}", "Content-Type": "application/json"}
            connection.request("POST", "/api/tasks", json.dumps({"title": key}), {**headers, "Idempotency-Key": key})
            response = connection.getresponse()
            return response.status, response.headers, json.loads(response.read())


def assert_each_key_has_one_task(
    server: Server, database: str, user: str, harm: Callable[[], bool], *, drops: bool
) -> int:
    """Let clients create while harm is done again and again; compare what was acknowledged with what is there.

    The harm says whether it has met what it is meant for. Returns how many requests failed.
    """
    clients = [Client(server, user, name, drops=drops) for name in range(CLIENTS)]

    def acknowledged() -> int:
        return sum(len(client.made) for client in clients)

    over = threading.Event()
    with ThreadPoolExecutor(CLIENTS) as threads:
        streams = [threads.submit(client.send_until, over) for client in clients]
        try:
            began, before, met = time.monotonic(), -1, False
            while not met or acknowledged() <= CLIENTS or time.monotonic() < began + HARM_SECONDS:
                assert time.monotonic() < began + PATIENCE_SECONDS, f"{acknowledged()} creations; harm met some: {met}"
                if acknowledged() == before:  # a slow machine, too, has to get on between two harms
                    time.sleep(0.01)
                    continue
                before = acknowledged()
                met = harm()
        finally:
            over.set()
        made = {key: task_id for stream in streams for key, task_id in stream.result().items()}
    stored = rows_of(database, "SELECT idempotency_key || ' ' || id FROM tasks WHERE user_id = :user", user=user)
    assert sorted(stored) == sorted(f"{key} {task_id}" for key, task_id in made.items())
    return sum(client.failures for client in clients)


def test_a_retry_finds_the_task_that_a_killed_worker_made(server: Server, database: str) -> None:
    killed: set[int] = set()

    def kill_a_worker() -> bool:
        assert server.request("GET", "/health/live")[0] == 200  # only once another serves
        time.sleep(0.1)
        if victims := sorted(set(server.workers) - killed):
            killed.add(victims[0])
            os.kill(victims[0], signal.SIGKILL)
        return len(killed) > 1

    assert assert_each_key_has_one_task(server, database, "killed", kill_a_worker, drops=True) > 0


def test_a_retry_finds_the_task_that_a_lost_connection_made(server: Server, database: str) -> None:
    """A client hears of it as 503 with Retry-After, if at all: the service repeats a creation itself."""
    found: list[Any] = []
    terminate = """SELECT state FROM pg_stat_activity, pg_terminate_backend(pid)
        WHERE datname = current_database() AND pid <> pg_backend_pid()"""

    def terminate_all_connections() -> bool:
        found.extend(rows_of(database, terminate))
        time.sleep(0.05)
        return "active" in found  # a statement

    assert_each_key_has_one_task(server, database, "cut off", terminate_all_connections, drops=False)
