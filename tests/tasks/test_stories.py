"""Stateful tests: whatever two users do, the API responds as a model made of dictionaries does."""

from collections.abc import Callable
from typing import Any, TypeAlias, cast
from urllib.parse import parse_qsl

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from tests.conftest import MISSING_ID, Caller, MakeApp, assert_error
from tests.support.databases import engine_of
from tests.support.tasks import PRIORITIES, Task, assert_invalid, etag_of, in_order, listed, path_of, task_in

Parameters: TypeAlias = dict[str, str]

LIMIT = 4
NEVER = "2026-02-08T09:30:00.123456Z"  # no task had this version
OPTIONS = settings(stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])

USERS = st.sampled_from(["alice", "bob"])
KEYS = st.sampled_from([None, None, "1", "2", "3"])
WHICH = st.integers(0, 2 * LIMIT)
TITLES = st.sampled_from(["a", "a", " a ", "B", "Äb", "äB", "100%", "1_0", "\\", "\uffee", "🥛", " "])
TAGS = st.sampled_from(["a", "A", " b ", "ä", '"', "%"])
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "description": st.sampled_from([None, "", " A%", "ä", "Ä", "\\_"]),
    "is_completed": st.booleans(),
    "due_date": st.sampled_from([None, "2026-02-08", "2026-02-09", "0001-01-01", "9999-12-31"]),
    "priority": st.sampled_from([None, *PRIORITIES]),
    "tags": st.lists(TAGS, max_size=4),
}
DEFAULTS: Task = {"description": None, "is_completed": False, "due_date": None, "priority": None, "tags": []}
BODIES = st.fixed_dictionaries({"title": TITLES}, optional=FIELDS)
CHANGES = st.fixed_dictionaries({}, optional={"title": TITLES, **FIELDS})
CONDITIONS = st.sampled_from([None, None, "right", "right", "weak", "in a list", "before", "never", "any", "invalid"])
SORTED_BY = ("created_at", "updated_at", "title", "due_date", "priority")
SORTS = st.sampled_from([sign + name for name in SORTED_BY for sign in ("", "-")])
SEARCHES = st.sampled_from(["a", "Ä", " b ", "%", "_", "\\", "zz", " "])


def parameter(name: str, values: st.SearchStrategy[str]) -> st.SearchStrategy[Parameters]:
    return values.map(lambda value: {name: value})


# Few parameters at a time, so that lists are seldom empty.
NOTHING: st.SearchStrategy[Parameters] = st.just({})
BOOLEANS = st.sampled_from(["true", "false"])
SORTED = NOTHING | parameter("sort", SORTS)
DAYS = st.sampled_from(["2026-02-08", "2026-02-09"])
FILTERED = (
    *(NOTHING, parameter("is_completed", BOOLEANS), parameter("q", SEARCHES)),
    *(parameter("priority", st.sampled_from([*PRIORITIES, "none"])), parameter("tag", TAGS)),
    *(parameter("due_from", DAYS), parameter("due_to", DAYS)),
)
COUNTED = NOTHING | parameter("include_total", BOOLEANS)


def merged(*parts: st.SearchStrategy[Parameters]) -> st.SearchStrategy[Parameters]:
    return st.tuples(*parts).map(lambda found: {name: value for part in found for name, value in part.items()})


LISTS = merged(
    SORTED,
    st.one_of(FILTERED),
    st.one_of(FILTERED),
    COUNTED,
    NOTHING | parameter("limit", st.sampled_from(["1", "2", "1000"])),
)


def stored(fields: Task) -> Task:
    """Return the fields of a body as they are stored."""
    tags = list(dict.fromkeys(tag.strip() for tag in fields["tags"]))
    return {**fields, "title": fields["title"].strip(), "tags": tags}


def completion(before: Task, after: Task) -> str | None:
    """Return when a task was completed that was changed."""
    time: str = before["completed_at"] or after["updated_at"]
    return time if after["is_completed"] else None


class Model:
    """The stored tasks, and what the contract says about them."""

    def __init__(self) -> None:
        self.tasks: dict[str, Task] = {}
        self.versions: dict[str, list[str]] = {}  # of every task ever made, the newest last
        self.keys: dict[tuple[str, str | None], tuple[str, Task]] = {}  # the id and the body

    def refusal(self, user: str, task_id: str) -> tuple[int, str] | None:
        if task_id not in self.tasks:
            return 404, "TASK_NOT_FOUND"
        return None if self.tasks[task_id]["user_id"] == user else (403, "TASK_FORBIDDEN")

    def owned_by(self, user: str) -> list[Task]:
        return [task for task in self.tasks.values() if task["user_id"] == user]

    def store(self, task: Task) -> None:
        self.tasks[task["id"]] = task
        self.versions.setdefault(task["id"], []).append(task["updated_at"])

    def remove(self, task_id: str) -> None:
        del self.tasks[task_id]
        self.keys = {key: made for key, made in self.keys.items() if made[0] != task_id}

    def matching(self, user: str, parameters: Parameters) -> list[Task]:
        """Return the tasks of a list, in order."""
        found = self.owned_by(user)
        if "is_completed" in parameters:
            found = [task for task in found if task["is_completed"] == (parameters["is_completed"] == "true")]
        if q := parameters.get("q", "").strip().lower():
            found = [task for task in found if q in task["title"].lower() or q in (task["description"] or "").lower()]
        if priority := parameters.get("priority"):
            found = [task for task in found if (task["priority"] or "none") == priority]
        if tag := parameters.get("tag", "").strip():
            found = [task for task in found if tag in task["tags"]]
        if {"due_from", "due_to"} & parameters.keys():
            first, last = parameters.get("due_from", ""), parameters.get("due_to", "~")
            found = [task for task in found if task["due_date"] and first <= task["due_date"] <= last]
        return in_order(found, parameters.get("sort", "-created_at"))


class Api(RuleBasedStateMachine):
    """Two users of one database. The model takes only ids and times from the responses."""

    def __init__(self, caller: Callable[[str], Caller], engine: Engine) -> None:
        super().__init__()
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM users"))
        self.callers = {user: caller(user) for user in ("alice", "bob")}
        self.model = Model()
        self.seen: dict[tuple[str, str], tuple[str, Any]] = {}  # the last ETag and content of each list

    def task_id(self, which: int) -> str:
        """Choose a task that exists or existed, or an id that never did."""
        known = [*self.model.versions, MISSING_ID]
        return known[which % len(known)]

    def condition(self, name: str, task_id: str, kind: str | None) -> tuple[dict[str, str], bool]:
        """Return a conditional header, and whether it matches the task as it is."""
        versions = self.model.versions.get(task_id, [NEVER])
        now = f'"{versions[-1]}"'
        values = {
            "right": now,
            "weak": f"W/{now}",
            "in a list": f'"x" , {now},W/"y"',
            "before": f'"{versions[-2] if len(versions) > 1 else NEVER}"',
            "never": f'"x{versions[-1]}", "{NEVER}"',
            "any": "*",
            "invalid": versions[-1],
        }
        return ({name: values[kind]} if kind else {}), kind in ("right", "weak", "in a list", "any")

    @initialize(bodies=st.lists(st.tuples(USERS, BODIES, KEYS), min_size=8, max_size=10))
    def begin(self, bodies: list[tuple[str, Task, str | None]]) -> None:
        for user, body, key in bodies:
            self.create(user, body, key)

    @rule(user=USERS, body=BODIES, key=KEYS)
    def create(self, user: str, body: Task, key: str | None) -> None:
        headers = {"Idempotency-Key": key} if key else {}
        answer = self.callers[user].post("/api/tasks", json=body, headers=headers)
        fields = stored({**DEFAULTS, **body})
        task_id, first = self.model.keys.get((user, key), (None, None))
        if not fields["title"]:
            assert_invalid(answer, "title")
        elif task_id and first != fields:
            assert_error(answer, 422, "IDEMPOTENCY_KEY_REUSED")
        elif task_id:
            assert task_in(answer, 201) == self.model.tasks[task_id]
            assert answer.headers["Idempotency-Replayed"] == "true"
        elif len(self.model.owned_by(user)) == LIMIT:
            assert_error(answer, 422, "TASK_LIMIT_REACHED")
        else:
            self.created(user, key, fields, answer)

    def created(self, user: str, key: str | None, fields: Task, answer: TestResponse) -> None:
        task = task_in(answer, 201)
        now = task["created_at"]
        completed_at = now if fields["is_completed"] else None
        decided = {"id": task["id"], "completed_at": completed_at, "created_at": now, "updated_at": now}
        assert task == {**fields, **decided, "user_id": user}
        assert task["id"] not in self.model.versions
        assert answer.headers["Location"] == path_of(task)
        assert "Idempotency-Replayed" not in answer.headers
        self.model.store(task)
        if key:
            self.model.keys[user, key] = (task["id"], fields)

    @rule(user=USERS, which=WHICH, method=st.sampled_from(["PUT", "PATCH"]), changes=CHANGES, kind=CONDITIONS)
    def change(self, user: str, which: int, method: str, changes: Task, kind: str | None) -> None:
        task_id = self.task_id(which)
        headers, matches = self.condition("If-Match", task_id, kind)
        answer = self.callers[user](method, f"/api/tasks/{task_id}", json=changes, headers=headers)
        if changes.get("title") == " ":
            assert_invalid(answer, "title")
        elif refusal := self.model.refusal(user, task_id):
            assert_error(answer, *refusal)
        elif kind and not matches:
            assert_error(answer, 412, "PRECONDITION_FAILED")
        else:
            self.changed(self.model.tasks[task_id], changes, task_in(answer))

    def changed(self, before: Task, changes: Task, after: Task) -> None:
        assert (after["updated_at"] > before["updated_at"]) == bool(changes)
        expected = stored({**before, **changes}) | {"updated_at": after["updated_at"]}
        assert after == expected | {"completed_at": completion(before, expected)}
        if changes:
            self.model.store(after)

    @rule(user=USERS, which=WHICH, kind=CONDITIONS)
    def delete(self, user: str, which: int, kind: str | None) -> None:
        task_id = self.task_id(which)
        headers, matches = self.condition("If-Match", task_id, kind)
        answer = self.callers[user].delete(f"/api/tasks/{task_id}", headers=headers)
        if refusal := self.model.refusal(user, task_id):
            assert_error(answer, *refusal)
        elif kind and not matches:
            assert_error(answer, 412, "PRECONDITION_FAILED")
        else:
            assert (answer.status_code, answer.data) == (204, b"")
            self.model.remove(task_id)

    @rule(user=USERS, which=WHICH, kind=CONDITIONS)
    def get(self, user: str, which: int, kind: str | None) -> None:
        task_id = self.task_id(which)
        headers, matches = self.condition("If-None-Match", task_id, kind)
        answer = self.callers[user].get(f"/api/tasks/{task_id}", headers=headers)
        if refusal := self.model.refusal(user, task_id):
            assert_error(answer, *refusal)
        elif matches:
            etag = etag_of(self.model.tasks[task_id])
            assert (answer.status_code, answer.data, answer.headers["ETag"]) == (304, b"", etag)
        else:
            assert task_in(answer) == self.model.tasks[task_id]

    @rule(user=USERS, which=st.booleans(), mark=st.booleans())
    def mark_all(self, user: str, which: bool, mark: bool) -> None:
        path = f"/api/tasks?is_completed={str(which).lower()}"
        answer = self.callers[user].patch(path, json={"is_completed": mark})
        marked = [task for task in self.model.owned_by(user) if task["is_completed"] == which]
        assert (answer.status_code, answer.json) == (200, {"count": len(marked)})
        now = {task["id"]: task["updated_at"] for task in listed(self.callers[user])}
        for task in marked:
            assert now[task["id"]] > task["updated_at"]
            changed = {**task, "is_completed": mark, "updated_at": now[task["id"]]}
            self.model.store({**changed, "completed_at": completion(task, changed)})

    @rule(user=USERS, which=st.booleans())
    def delete_all(self, user: str, which: bool) -> None:
        answer = self.callers[user].delete(f"/api/tasks?is_completed={str(which).lower()}")
        gone = [task["id"] for task in self.model.owned_by(user) if task["is_completed"] == which]
        assert (answer.status_code, answer.json) == (200, {"count": len(gone)})
        for task_id in gone:
            self.model.remove(task_id)

    @rule(user=USERS, parameters=LISTS)
    def list_all_pages(self, user: str, parameters: Parameters) -> None:
        tasks = self.model.matching(user, parameters)
        limit = int(parameters.get("limit", "1000"))
        query = parameters
        for start in range(0, max(len(tasks), 1), limit):
            answer = self.callers[user].get("/api/tasks", query_string=query)
            assert (answer.status_code, answer.json) == (200, tasks[start : start + limit])
            total = str(len(tasks)) if parameters.get("include_total") == "true" else None
            assert answer.headers.get("X-Total-Count") == total
            link = answer.headers.get("Link", "").removeprefix("</api/tasks?").removesuffix('>; rel="next"')
            query = dict(parse_qsl(link))
            assert query.get("cursor") == answer.headers.get("X-Next-Cursor")
            assert bool(query) == (start + limit < len(tasks))

    @invariant()
    def the_stored_tasks_are_those_of_the_model(self) -> None:
        for user in self.callers:
            assert self.list_with_etag(user, "/api/tasks") == self.model.matching(user, {})
            self.list_with_etag(user, "/api/tasks?sort=title&limit=2&include_total=true")

    def list_with_etag(self, user: str, path: str) -> list[Task]:
        """Return a list, after checking that its ETag is new if its content is, and that it is not sent again."""
        answer = self.callers[user].get(path)
        assert answer.status_code == 200, answer.text
        etag, content = (
            answer.headers["ETag"],
            (answer.data, answer.headers.get("Link"), len(self.model.owned_by(user))),
        )
        old_etag, old_content = self.seen.get((user, path), ("", content))
        assert old_etag != etag or old_content == content
        self.seen[user, path] = (etag, content)
        again = self.callers[user].get(path, headers={"If-None-Match": f'"x", W/{etag}'})
        assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", etag)
        return cast(list[Task], answer.json)


@pytest.mark.parametrize("examples", [20, pytest.param(130, marks=pytest.mark.slow)])
def test_two_users_get_the_responses_of_the_model(make_app: MakeApp, database_url: str, examples: int) -> None:
    app = make_app(MAX_TASKS_PER_USER=str(LIMIT))

    with engine_of(database_url) as engine:

        class Machine(Api):
            def __init__(self) -> None:
                super().__init__(lambda user: Caller(app.test_client(), user), engine)

        run_state_machine_as_test(Machine, settings=settings(OPTIONS, max_examples=examples))
