"""The API against a model of it: whatever two users do in whatever order, dicts and sorted() foretell the answers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from tests.conftest import NOWHERE, Caller, MakeApp, assert_error
from tests.support.databases import engine_of

Task: TypeAlias = dict[str, Any]
Refusal: TypeAlias = tuple[int, str]
Parameters: TypeAlias = dict[str, str]
Place: TypeAlias = tuple[str, str]  # a task's in a list: its sort value and its id

LIMIT = 8
NEVER = "2026-02-08T09:30:00.123456Z"
EXAMPLES = settings(stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])

USERS = st.sampled_from(["alice", "bob"])
KEYS = st.sampled_from([None, None, "1", "2", "3"])
WHICH = st.integers(0, 2 * LIMIT)
TITLES = st.sampled_from(["a", "a", " a ", "B", "Äb", "äB", "100%", "1_0", "\\", "\uffee", "🥛"])
DESCRIPTIONS = st.sampled_from([None, "", " A%", "ä", "Ä", "\\_"])
FIELDS = {"description": DESCRIPTIONS, "is_completed": st.booleans()}
BODIES = st.fixed_dictionaries({"title": TITLES}, optional=FIELDS) | st.just({"title": " "})
CHANGES = st.fixed_dictionaries({}, optional={"title": TITLES, **FIELDS}) | st.just({"title": ""})
CONDITIONS = st.sampled_from([None, None, "right", "right", "weak", "among others", "before", "never", "any", "none"])
BOOLEANS = st.sampled_from(["true", "false"])
SORTS = st.sampled_from([sign + name for name in ("created_at", "updated_at", "title") for sign in ("", "-")])
SEARCHES = st.sampled_from(["a", "Ä", " b ", "%", "_", "\\", "zz", " "])


def one(name: str, values: st.SearchStrategy[str]) -> st.SearchStrategy[Parameters]:
    return values.map(lambda value: {name: value})


# Few parameters at a time, so that lists are seldom empty.
NOTHING: st.SearchStrategy[Parameters] = st.just({})
SORTED = NOTHING | one("sort", SORTS)
FILTERED = NOTHING | one("is_completed", BOOLEANS) | one("q", SEARCHES)
COUNTED = NOTHING | one("include_total", BOOLEANS)
LIMITED = one("limit", st.sampled_from(["1", "2"]))
LISTS = st.tuples(SORTED, FILTERED, COUNTED, NOTHING | LIMITED | one("limit", st.just("1000")))
WALKS = st.tuples(SORTED, FILTERED, COUNTED, LIMITED)
# What may change on the way: `limit` and `include_total`; None leaves it out.
ON_THE_WAY = st.sampled_from([{}, {}, {}, {"limit": "1"}, {"limit": None}, {"include_total": "true"}])


def canonical(parameters: Parameters) -> Parameters:
    """Leave out what says what holds anyway, as a link does."""
    trimmed = {name: value.strip() if name == "q" else value for name, value in parameters.items()}
    idle = {("q", ""), ("sort", "-created_at"), ("include_total", "false")}
    return {name: value for name, value in trimmed.items() if (name, value) not in idle}


class Model:
    """What is stored, and what the rules of the API say about it."""

    def __init__(self) -> None:
        self.tasks: dict[str, Task] = {}
        self.versions: dict[str, list[str]] = {}  # of every task ever made, the newest last
        self.keys: dict[tuple[str, str], tuple[str, Task]] = {}  # task and body

    def refusal(self, user: str, task_id: str) -> Refusal | None:
        if task_id not in self.tasks:
            return 404, "TASK_NOT_FOUND"
        return None if self.tasks[task_id]["user_id"] == user else (403, "TASK_FORBIDDEN")

    def of(self, user: str) -> list[Task]:
        return [task for task in self.tasks.values() if task["user_id"] == user]

    def store(self, task: Task) -> None:
        self.tasks[task["id"]] = task
        self.versions.setdefault(task["id"], []).append(task["updated_at"])

    def remove(self, task_id: str) -> None:
        del self.tasks[task_id]
        self.keys = {key: made for key, made in self.keys.items() if made[0] != task_id}

    def matching(self, user: str, parameters: Parameters) -> list[Task]:
        """The tasks of a list without pages, in its order."""
        found = self.of(user)
        if "is_completed" in parameters:
            found = [task for task in found if task["is_completed"] == (parameters["is_completed"] == "true")]
        if q := parameters.get("q", "").strip().lower():
            found = [task for task in found if q in task["title"].lower() or q in (task["description"] or "").lower()]
        backwards = parameters.get("sort", "-created_at").startswith("-")
        return sorted(found, key=lambda task: place(task, parameters), reverse=backwards)

    def page(self, user: str, parameters: Parameters, after: Place | None) -> tuple[list[Task], bool]:
        """The tasks of one page, and whether there are more."""
        found = self.matching(user, parameters)
        if after:
            backwards = parameters.get("sort", "-created_at").startswith("-")
            found = [
                task
                for task in found
                if (place(task, parameters) < after if backwards else place(task, parameters) > after)
            ]
        limit = int(parameters.get("limit", len(found)))
        return found[:limit], len(found) > limit


def place(task: Task, parameters: Parameters) -> Place:
    return task[parameters.get("sort", "-created_at").removeprefix("-")], task["id"]


def merged(parts: tuple[Parameters, ...]) -> Parameters:
    return {name: value for part in parts for name, value in part.items()}


@dataclass
class Walk:
    """A way through a list, page by page, while tasks come, change and go."""

    user: str
    parameters: Parameters
    steady: dict[str, Place]  # tasks that have been there throughout, at the same place
    shown: list[str]
    after: Place
    cursor: str


class Api(RuleBasedStateMachine):
    """Two users of one database; the model is told what only the server knows: ids and times."""

    def __init__(self, client: Callable[[str], Caller], engine: Engine) -> None:
        super().__init__()
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM users"))
        self.callers = {user: client(user) for user in ("alice", "bob")}
        self.model = Model()
        self.walk: Walk | None = None
        self.asked: list[tuple[str, Parameters]] = []
        self.seen: dict[tuple[str, str], tuple[str, Any]] = {}  # of each list its last tag, and what was under it

    def task_id(self, which: int) -> str:
        """One of the tasks there are or have been, or one that never was."""
        ids = [*self.model.versions, NOWHERE]
        return ids[which % len(ids)]

    def condition(self, task_id: str, kind: str | None) -> tuple[str | None, bool]:
        """A header with tags, and whether it matches the task as it is."""
        versions = self.model.versions.get(task_id, [NEVER])
        now = f'"{versions[-1]}"'
        headers = {
            None: None,
            "right": now,
            "weak": f"W/{now}",
            "among others": f'"x" , {now},W/"y"',
            "before": f'"{versions[-2] if len(versions) > 1 else NEVER}"',
            "never": f'"x{versions[-1]}", "{NEVER}"',
            "any": "*",
            "none": versions[-1],
        }
        return headers[kind], kind in ("right", "weak", "among others", "any")

    @initialize(made=st.lists(st.tuples(USERS, BODIES, KEYS), min_size=4, max_size=10))
    def begin(self, made: list[tuple[str, Task, str | None]]) -> None:
        for user, body, key in made:
            self.create(user, body, key)

    @rule(user=USERS, body=BODIES, key=KEYS)
    def create(self, user: str, body: Task, key: str | None) -> None:
        headers = {"Idempotency-Key": key} if key else {}
        answer = self.callers[user].post("/api/tasks", json=body, headers=headers)
        asked = {"description": None, "is_completed": False, **body, "title": body["title"].strip()}
        made, first = self.model.keys.get((user, str(key)), (None, None))
        if not asked["title"]:
            assert_error(answer, 400, "VALIDATION_ERROR")
        elif made and first != asked:
            assert_error(answer, 422, "IDEMPOTENCY_KEY_REUSED")
        elif made:
            self.assert_task(answer, 201, self.model.tasks[made])
            assert answer.headers["Idempotency-Replayed"] == "true"
        elif len(self.model.of(user)) == LIMIT:
            assert_error(answer, 422, "TASK_LIMIT_REACHED")
        else:
            self.created(user, key, asked, answer)

    def created(self, user: str, key: str | None, asked: Task, answer: TestResponse) -> None:
        own = {name: (answer.json or {}).get(name) for name in ("id", "created_at")}
        task: Task = {**asked, **own, "user_id": user, "updated_at": own["created_at"]}
        self.assert_task(answer, 201, task)
        assert task["id"] not in self.model.versions
        assert "Idempotency-Replayed" not in answer.headers
        self.model.store(task)
        if key:
            self.model.keys[user, key] = (task["id"], asked)

    @rule(user=USERS, which=WHICH, method=st.sampled_from(["PUT", "PATCH"]), changes=CHANGES, kind=CONDITIONS)
    def change(self, user: str, which: int, method: str, changes: Task, kind: str | None) -> None:
        task_id = self.task_id(which)
        header, matches = self.condition(task_id, kind)
        headers = {"If-Match": header} if header is not None else {}
        answer = self.callers[user](method, f"/api/tasks/{task_id}", json=changes, headers=headers)
        if changes.get("title") == "":
            assert_error(answer, 400, "VALIDATION_ERROR")
        elif refusal := self.model.refusal(user, task_id):
            assert_error(answer, *refusal)
        elif kind and not matches:
            assert_error(answer, 412, "PRECONDITION_FAILED")
        else:
            self.changed(task_id, changes, answer)

    def changed(self, task_id: str, changes: Task, answer: TestResponse) -> None:
        before = self.model.tasks[task_id]
        after = {**before, **changes, "title": str(changes.get("title", before["title"])).strip()}
        if changes:
            after["updated_at"] = (answer.json or {}).get("updated_at")
        self.assert_task(answer, 200, after)
        if changes:
            assert after["updated_at"] > before["updated_at"]
            self.model.store(after)

    @rule(user=USERS, which=WHICH, kind=CONDITIONS)
    def delete(self, user: str, which: int, kind: str | None) -> None:
        task_id = self.task_id(which)
        header, matches = self.condition(task_id, kind)
        headers = {"If-Match": header} if header is not None else {}
        answer = self.callers[user].delete(f"/api/tasks/{task_id}", headers=headers)
        if refusal := self.model.refusal(user, task_id):
            assert_error(answer, *refusal)
        elif kind and not matches:
            assert_error(answer, 412, "PRECONDITION_FAILED")
        else:
            assert (answer.status_code, answer.data) == (204, b"")
            self.model.remove(task_id)

    @rule(user=USERS, done=st.booleans(), mark=st.booleans())
    def mark_all(self, user: str, done: bool, mark: bool) -> None:
        path = f"/api/tasks?is_completed={str(done).lower()}"
        answer = self.callers[user].patch(path, json={"is_completed": mark})
        marked = [task for task in self.model.of(user) if task["is_completed"] == done]
        assert (answer.status_code, answer.json) == (200, {"count": len(marked)})
        now = {task["id"]: task["updated_at"] for task in self.callers[user].get("/api/tasks").json or []}
        for task in marked:
            assert now[task["id"]] > task["updated_at"]
            self.model.store({**task, "is_completed": mark, "updated_at": now[task["id"]]})

    @rule(user=USERS, done=st.booleans())
    def delete_all(self, user: str, done: bool) -> None:
        answer = self.callers[user].delete(f"/api/tasks?is_completed={str(done).lower()}")
        gone = [task["id"] for task in self.model.of(user) if task["is_completed"] == done]
        assert (answer.status_code, answer.json) == (200, {"count": len(gone)})
        for task_id in gone:
            self.model.remove(task_id)

    @rule(user=USERS, which=WHICH, kind=CONDITIONS)
    def get(self, user: str, which: int, kind: str | None) -> None:
        task_id = self.task_id(which)
        header, matches = self.condition(task_id, kind)
        headers = {"If-None-Match": header} if header is not None else {}
        answer = self.callers[user].get(f"/api/tasks/{task_id}", headers=headers)
        if refusal := self.model.refusal(user, task_id):
            assert_error(answer, *refusal)
        elif matches:
            tag = f'"{self.model.tasks[task_id]["updated_at"]}"'
            assert (answer.status_code, answer.data, answer.headers["ETag"]) == (304, b"", tag)
        else:
            self.assert_task(answer, 200, self.model.tasks[task_id])

    @rule(user=USERS, parts=LISTS)
    def list_tasks(self, user: str, parts: tuple[Parameters, ...]) -> None:
        parameters = merged(parts)
        self.asked.append((user, parameters))
        self.listed(user, parameters, parameters, None)

    @precondition(lambda self: self.asked)
    @rule(which=st.integers(1, 3))
    def poll(self, which: int) -> None:
        user, parameters = self.asked[-min(which, len(self.asked))]
        self.listed(user, parameters, parameters, None)

    def listed(self, user: str, parameters: Parameters, sent: Parameters, after: Place | None) -> Parameters:
        """Ask for a list and compare it; return the parameters of its next page, none if it is the last."""
        path = f"/api/tasks?{urlencode(sent)}"
        answer = self.callers[user].get(path)
        tasks, more = self.model.page(user, parameters, after)
        assert (answer.status_code, answer.json) == (200, tasks)
        total = len(self.model.matching(user, parameters)) if parameters.get("include_total") == "true" else None
        assert answer.headers.get("X-Total-Count") == (None if total is None else str(total))
        following: Parameters = {}
        if more:
            link = answer.headers["Link"]
            assert link.startswith("</api/tasks?")
            assert link.endswith('>; rel="next"')
            following = dict(parse_qsl(link.removeprefix("</api/tasks?").partition(">")[0], keep_blank_values=True))
            assert following == {**canonical(sent), "cursor": answer.headers["X-Next-Cursor"]}
        else:
            assert not {"Link", "X-Next-Cursor"} & set(answer.headers.keys())
        self.polled(user, path, answer, (tasks, following, total))
        return following

    def polled(self, user: str, path: str, answer: TestResponse, content: Any) -> None:
        """A list has another tag exactly when it says something else, and is not sent under the tag it has."""
        tag = answer.headers["ETag"]
        if (user, path) in self.seen:
            old_tag, old_content = self.seen[user, path]
            assert (old_tag == tag) == (old_content == content)
        self.seen[user, path] = (tag, content)
        again = self.callers[user].get(path, headers={"If-None-Match": f'"x", W/{tag}'})
        assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", tag)

    @rule(user=USERS, parts=WALKS)
    def set_out(self, user: str, parts: tuple[Parameters, ...]) -> None:
        parameters = merged(parts)
        self.asked.append((user, parameters))
        steady = {task["id"]: place(task, parameters) for task in self.model.matching(user, parameters)}
        following = self.listed(user, parameters, parameters, None)
        self.walk = Walk(user, parameters, steady, [], ("", ""), "")
        self.arrived(self.model.page(user, parameters, None)[0], following)

    @precondition(lambda self: self.walk)
    @rule(otherwise=ON_THE_WAY)
    def walk_on(self, otherwise: dict[str, str | None]) -> None:
        walk = self.walk
        assert walk
        parameters = {name: value for name, value in {**walk.parameters, **otherwise}.items() if value is not None}
        following = self.listed(walk.user, parameters, {**parameters, "cursor": walk.cursor}, walk.after)
        self.arrived(self.model.page(walk.user, parameters, walk.after)[0], following)

    def arrived(self, tasks: list[Task], following: Parameters) -> None:
        assert self.walk
        self.walk.shown += [task["id"] for task in tasks]
        if following:
            self.walk.after = place(tasks[-1], self.walk.parameters)
            self.walk.cursor = following["cursor"]
            return
        for task_id in self.walk.steady:
            assert self.walk.shown.count(task_id) == 1
        self.walk = None

    @precondition(lambda self: self.walk)
    @rule(changed=st.sampled_from(["user", "sort", "q", "is_completed", "cursor"]))
    def a_cursor_leads_nowhere_else(self, changed: str) -> None:
        walk = self.walk
        assert walk
        user, sent = walk.user, {**walk.parameters, "cursor": walk.cursor}
        if changed == "user":
            user = "bob" if user == "alice" else "alice"
        else:
            other = {"sort": "title", "q": "A", "is_completed": "true", "cursor": "nonsense"}[changed]
            sent[changed] = (
                other if sent.get(changed) != other else {"sort": "-title", "is_completed": "false"}[changed]
            )
        answer = self.callers[user].get("/api/tasks", query_string=sent)
        assert list(assert_error(answer, 400, "VALIDATION_ERROR")["errors"]) == ["cursor"]

    @invariant()
    def what_is_stored_is_what_the_model_holds(self) -> None:
        for user, caller in self.callers.items():
            assert caller.get("/api/tasks").json == self.model.matching(user, {})
        if self.walk:
            there = {
                t["id"]: place(t, self.walk.parameters)
                for t in self.model.matching(self.walk.user, self.walk.parameters)
            }
            self.walk.steady = {task_id: at for task_id, at in self.walk.steady.items() if there.get(task_id) == at}

    def assert_task(self, answer: TestResponse, status: int, task: Task) -> None:
        assert (answer.status_code, answer.json) == (status, task)
        assert answer.headers["ETag"] == f'"{task["updated_at"]}"'
        assert answer.headers.get("Location") == (f"/api/tasks/{task['id']}" if status == 201 else None)


@pytest.mark.parametrize("examples", [20, pytest.param(130, marks=pytest.mark.slow)])
def test_two_users_get_what_the_model_foretells(make_app: MakeApp, database_url: str, examples: int) -> None:
    app = make_app(MAX_TASKS_PER_USER=str(LIMIT))

    with engine_of(database_url) as engine:

        class Machine(Api):
            def __init__(self) -> None:
                super().__init__(lambda user: Caller(app.test_client(), user), engine)

        run_state_machine_as_test(Machine, settings=settings(EXAMPLES, max_examples=examples))
