"""The feed of changes: /api/tasks/changes."""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from flask import Flask
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from tests.conftest import Caller, MakeApp, assert_error
from tests.support.databases import rows_of
from tests.support.statements import database_of
from tests.support.tasks import Task, assert_invalid, ids, listed, path_of
from tests.support.threads import at_once
from todo_api.tasks import feed, ownership
from todo_api.tasks.pagination import encode_base64

PATH = "/api/tasks/changes"
OPTIONS = settings(max_examples=12, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))


class Copy:
    """A client's copy of its tasks."""

    def __init__(self, caller: Caller, limit: int) -> None:
        self.caller, self.limit = caller, limit
        self.tasks: dict[str, Task] = {}
        self.next: str | None = None

    def read(self) -> bool:
        """Read one response; return whether there is more."""
        parameters = {"limit": self.limit} | ({"since": self.next} if self.next else {})
        answer = self.caller.get(PATH, query_string=parameters)
        assert answer.status_code == 200, answer.text
        body: Any = answer.json
        assert list(body) == ["tasks", "deleted", "next", "has_more"]
        assert len(body["tasks"]) + len(body["deleted"]) <= self.limit
        for task_id in body["deleted"]:
            self.tasks.pop(task_id, None)
        self.tasks |= {task["id"]: task for task in body["tasks"]}
        self.next = body["next"]
        return bool(body["has_more"])

    def finish(self) -> None:
        """Read until there is no more, and compare the copy with the list."""
        while self.read():
            pass
        assert self.tasks == {task["id"]: task for task in listed(self.caller)}


def changes(caller: Caller, since: str | None = None, **parameters: Any) -> Any:
    answer = caller.get(PATH, query_string=parameters | ({"since": since} if since else {}))
    assert answer.status_code == 200, answer.text
    return answer.json


def test_a_first_copy_then_what_changed_and_what_was_deleted(alice: Caller, bob: Caller) -> None:
    bob.create("Not hers")
    tasks = [alice.create(f"{number}") for number in range(3)]
    first = changes(alice)
    assert (first["tasks"], first["deleted"], first["has_more"]) == (tasks, [], False)
    nothing = changes(alice, first["next"])
    assert (nothing["tasks"], nothing["deleted"], nothing["has_more"]) == ([], [], False)
    changed = alice.patch(path_of(tasks[1]), json={"title": "Changed"}).json
    created = alice.create("New")
    alice.delete(path_of(tasks[0]))
    for since in (first["next"], nothing["next"]):
        later = changes(alice, since)
        assert (later["tasks"], later["deleted"]) == ([changed, created], [tasks[0]["id"]])
    assert changes(alice)["deleted"] == []
    assert changes(alice, later["next"])["tasks"] == []


def test_a_user_without_tasks_has_an_empty_copy_that_goes_on(alice: Caller) -> None:
    first = changes(alice)
    assert (first["tasks"], first["deleted"], first["has_more"]) == ([], [], False)
    task = alice.create()
    assert changes(alice, first["next"])["tasks"] == [task]


def test_pages_of_a_first_copy_see_what_is_deleted_meanwhile(alice: Caller) -> None:
    tasks = [alice.create(f"{number}") for number in range(6)]
    copy = Copy(alice, 2)
    assert copy.read()
    alice.delete(path_of(tasks[0]))
    alice.delete(path_of(tasks[5]))
    alice.patch(path_of(tasks[1]), json={"title": "Changed"})
    copy.finish()


def test_a_first_copy_of_tasks_that_have_not_changed_for_years_goes_on(alice: Caller, database_url: str) -> None:
    tasks = [alice.create(f"{number}") for number in range(4)]
    for table in ("users", "tasks"):
        rows_of(database_url, f"UPDATE {table} SET updated_at = '2001-02-08T09:30:00.123456Z'")
    copy = Copy(alice, 3)
    assert copy.read()
    alice.delete("/api/tasks?is_completed=true")
    alice.delete(path_of(tasks[0]))
    copy.finish()


def test_a_first_copy_has_what_code_without_the_owners_row_wrote(alice: Caller, database_url: str) -> None:
    for number in range(5):
        alice.create(f"{number}")
    rows_of(database_url, "UPDATE users SET updated_at = '2001-02-08T09:30:00.123456Z'")
    Copy(alice, 2).finish()


@pytest.mark.parametrize("limit", ["0", "1001", "x", ""])
def test_a_bad_limit_is_refused(alice: Caller, limit: str) -> None:
    assert_invalid(alice.get(PATH, query_string={"limit": limit}), "limit")


@pytest.mark.sqlite_only
def test_unknown_and_repeated_parameters_are_refused(alice: Caller) -> None:
    assert_invalid(alice.get(f"{PATH}?cursor=x"), "cursor")
    assert_invalid(alice.get(f"{PATH}?limit=1&limit=2"), "limit")
    assert_error(alice.post(PATH, json={}), 405, "METHOD_NOT_ALLOWED")


def test_a_broken_or_foreign_token_is_refused(alice: Caller, bob: Caller) -> None:
    alice.create()
    token = changes(alice)["next"]
    raw = [encode_base64(bytes(length)) for length in (0, 1, 65, 66, 67)]
    for since in ("", "x", "=", token[:-1], token + "A", f"{token}=", "é", "A" * 5000, *raw):
        assert_invalid(alice.get(PATH, query_string={"since": since}), "since")
    assert_invalid(bob.get(PATH, query_string={"since": token}), "since")


def forged(**parts: Any) -> str:
    return feed.Position(**parts).encode("alice")


def test_a_forged_token_shows_its_bearers_own_tasks_at_most(alice: Caller, bob: Caller) -> None:
    foreign, task = bob.create(), alice.create()
    bob.delete(path_of(bob.create()))
    for when in ("0001-01-01T00:00:00.000000Z", "9999-12-31T23:59:59.999999Z"):
        mark = feed.Mark(when, foreign["id"])
        for parts in ({"tasks": mark}, {"deletions": mark}, {"tasks": mark, "deletions": mark}):
            found = changes(alice, forged(day=feed.today(), **parts))
            assert found["tasks"] in ([], [task])
            assert found["deleted"] == []


def test_what_is_too_old_has_expired(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = Caller(make_app(DELETIONS_KEPT_DAYS="2").test_client(), "alice")
    alice.create()
    today = feed.today()
    token = changes(alice)["next"]
    for days, status in ((2, 200), (3, 410)):
        monkeypatch.setattr(feed, "today", lambda days=days: today + days)
        answer = alice.get(PATH, query_string={"since": token})
        assert answer.status_code == status
    assert_error(answer, 410, "CHANGES_EXPIRED")
    assert len(changes(alice)["tasks"]) == 1


def test_a_token_of_a_user_who_was_deleted_since_has_expired(alice: Caller, database_url: str) -> None:
    alice.create()
    token = changes(alice)["next"]
    rows_of(database_url, "DELETE FROM users")
    assert_error(alice.get(PATH, query_string={"since": token}), 410, "CHANGES_EXPIRED")
    alice.create()
    assert_error(alice.get(PATH, query_string={"since": token}), 410, "CHANGES_EXPIRED")


@pytest.mark.parametrize("kind", ["too old", "too many"])
def test_deletions_are_forgotten_in_passing(
    alice: Caller, bob: Caller, database_url: str, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(ownership, "PRUNE_EVERY", 1)
    bob.delete(path_of(bob.create()))
    tasks = [alice.create() for _ in range(6)]
    tokens = [changes(alice)["next"]]
    for task in tasks[:4]:
        alice.delete(path_of(task))
        tokens.append(changes(alice)["next"])
    if kind == "too old":
        old = datetime.now(UTC) - timedelta(days=91)
        values = {"old": old.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), "last": tasks[1]["id"]}
        age = "UPDATE deletions SET deleted_at = :old WHERE task_id <= :last AND user_id = 'alice'"
        rows_of(database_url, age, **values)
    else:
        monkeypatch.setattr(ownership, "MAX_DELETIONS_KEPT", 3)
    alice.delete(path_of(tasks[4]))
    kept = "SELECT CAST(task_id AS text) FROM deletions WHERE user_id = :user ORDER BY task_id"
    assert rows_of(database_url, kept, user="alice") == ids(tasks[2:5])
    assert len(rows_of(database_url, kept, user="bob")) == 1
    if kind == "too many":
        for _ in range(2):
            for token in tokens[:2]:
                assert_error(alice.get(PATH, query_string={"since": token}), 410, "CHANGES_EXPIRED")
            assert alice.patch(path_of(tasks[5]), json={"title": "x"}).status_code == 200  # finds nothing to prune
    for number in (2, 3, 4):
        assert changes(alice, tokens[number])["deleted"] == ids(tasks[number:5])
    assert len(changes(alice)["tasks"]) == 1


@pytest.mark.parametrize("since", [False, True])
def test_an_unchanged_feed_is_304(alice: Caller, bob: Caller, since: bool) -> None:
    task = alice.create()
    parameters = {"since": changes(alice)["next"]} if since else {}
    alice.patch(path_of(task), json={"title": "Changed"})
    answer = alice.get(PATH, query_string=parameters)
    etag, body = answer.headers["ETag"], cast(Any, answer.json)
    for header in (etag, f'"x", W/{etag}', "*"):
        again = alice.get(PATH, query_string=parameters, headers={"If-None-Match": header})
        assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", etag)
    for other in ({**parameters, "limit": 5}, {"since": body["next"]}):
        assert alice.get(PATH, query_string=other, headers={"If-None-Match": etag}).status_code == 200
    assert bob.get(PATH, headers={"If-None-Match": etag}).status_code == 200
    alice.create()
    assert alice.get(PATH, query_string=parameters, headers={"If-None-Match": etag}).status_code == 200


def test_the_etag_changes_with_the_day_as_the_token_does(alice: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    alice.create()
    answer = alice.get(PATH)
    tomorrow = feed.today() + 1
    monkeypatch.setattr(feed, "today", lambda: tomorrow)
    again = alice.get(PATH, headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 200
    assert again.json != answer.json


@pytest.mark.parametrize("path", ["/api/tasks", "/api/tasks?include_total=true", PATH])
def test_what_is_unchanged_costs_one_row(app: Flask, alice: Caller, path: str) -> None:
    for _ in range(3):
        alice.create()
    etag = alice.get(path).headers["ETag"]
    database, read = database_of(app), []

    def fetch(*arguments: Any) -> Any:
        rows = type(database).fetch(database, *arguments)
        read.append([*rows])
        return rows

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "fetch", fetch)
        assert alice.get(path, headers={"If-None-Match": etag}).status_code == 304
    [[row]] = read
    assert row[1] in (None, b"0") or path == PATH  # no task was counted


def test_what_was_forgotten_stays_forgotten(app: Flask, alice: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recount forgets more than a later prune does."""
    monkeypatch.setattr(ownership, "PRUNE_EVERY", 1)
    for _ in range(3):
        alice.delete(path_of(alice.create()))
    token = changes(alice)["next"]
    with app.app_context():
        ownership.OwnedTasks("alice").recount()
    assert_error(alice.get(PATH, query_string={"since": token}), 410, "CHANGES_EXPIRED")
    monkeypatch.setattr(ownership, "MAX_DELETIONS_KEPT", 1)
    alice.delete(path_of(alice.create()))
    assert_error(alice.get(PATH, query_string={"since": token}), 410, "CHANGES_EXPIRED")


class Readers(RuleBasedStateMachine):
    """Two users write at random; several readers of each keep copies with pages of different sizes."""

    def __init__(self, caller: Callable[[str], Caller], url: str) -> None:
        super().__init__()
        rows_of(url, "DELETE FROM users")
        self.callers = [caller("alice"), caller("bob")]
        self.copies = [Copy(caller, limit) for caller in self.callers for limit in (1, 2, 3, 7, 1000)]
        self.tasks: list[list[Task]] = [[], []]

    @rule(user=st.integers(0, 1), done=st.booleans())
    def create(self, user: int, done: bool) -> None:
        self.tasks[user].append(self.callers[user].create(is_completed=done))

    @rule(user=st.integers(0, 1), which=st.integers(0, 20), method=st.sampled_from(["PATCH", "PATCH", "DELETE"]))
    def write(self, user: int, which: int, method: str) -> None:
        if tasks := self.tasks[user]:
            self.callers[user](method, path_of(tasks[which % len(tasks)]), json={"title": f"{which}"})

    @rule(user=st.integers(0, 1), done=st.booleans(), method=st.sampled_from(["PATCH", "DELETE"]))
    def write_many(self, user: int, done: bool, method: str) -> None:
        path = f"/api/tasks?is_completed={str(done).lower()}"
        assert self.callers[user](method, path, json={"is_completed": not done}).status_code == 200

    @rule(which=st.integers(0, 9))
    def read(self, which: int) -> None:
        self.copies[which].read()

    @rule(which=st.integers(0, 9))
    def catch_up(self, which: int) -> None:
        self.copies[which].finish()

    def teardown(self) -> None:
        for copy in self.copies:
            copy.finish()


def test_every_copy_ends_equal_to_the_list(app: Flask, database_url: str) -> None:
    class Machine(Readers):
        def __init__(self) -> None:
            super().__init__(lambda user: Caller(app.test_client(), user), database_url)

    run_state_machine_as_test(Machine, settings=OPTIONS)


def write_at_random(caller: Caller, seed: int) -> None:
    chance = random.Random(seed)
    tasks: list[Task] = []
    for number in range(60):
        kind = chance.randrange(12)
        if kind < 5 or not tasks:
            tasks.append(caller.create(f"{number}", is_completed=chance.random() < 0.5))
        elif kind < 8:
            caller.patch(path_of(chance.choice(tasks)), json={"title": f"changed {number}"})
        elif kind < 10:
            caller.delete(path_of(chance.choice(tasks)))
        elif kind < 11:
            caller.patch("/api/tasks?is_completed=false", json={"is_completed": True})
        else:
            caller.delete("/api/tasks?is_completed=true")


def test_copies_kept_while_many_write_at_once_end_equal_to_the_list(app: Flask) -> None:
    """Neither equal times nor late commits may hide a change."""
    copies = [Copy(Caller(app.test_client(), user), limit) for user in ("alice", "bob") for limit in (1, 3, 1000)]

    def read(copy: Copy) -> None:
        for _ in range(60):
            copy.read()

    writers = [
        lambda user=user, seed=seed: write_at_random(Caller(app.test_client(), user), seed)
        for user in ("alice", "bob")
        for seed in range(4)
    ]
    at_once([*writers, *[lambda copy=copy: read(copy) for copy in copies]])
    for copy in copies:
        copy.finish()
