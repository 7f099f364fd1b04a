"""The six tools: what an agent can do with the tasks of its user, and what it is told when it cannot."""

import json
from typing import Any
from unittest.mock import Mock

import pytest
from flask import Flask
from jsonschema_rs import Draft202012Validator
from marshmallow import fields
from marshmallow.validate import Length, OneOf, Range

from tests.conftest import MISSING_ID, Caller, MakeApp
from tests.mcp.agents import HINTS, MCP_URL, Agent
from tests.mcp.test_protocol import NAMES
from tests.support.tokens import token
from tests.telemetry.test_logs import listen
from todo_api.database import DatabaseUnavailable
from todo_api.mcp.tools import SCOPES, TOOLS
from todo_api.tasks import Day, OwnedTasks

Json = dict[str, Any]
DETAILS: Json = {"description": "2 l", "due_date": "2026-02-14", "priority": "high", "tags": ["home"]}
NOT_FOUND = "There is no such task."


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app(MCP_URL=MCP_URL)


@pytest.fixture
def agent(app: Flask) -> Agent:
    return Agent(app)


@pytest.fixture
def described(agent: Agent) -> dict[str, Json]:
    return {tool["name"]: tool for tool in agent.ask("tools/list").json["result"]["tools"]}


def tasks_of(user: Caller) -> Any:
    return user.get("/api/tasks").json


def without_owner(task: Json) -> Json:
    return {name: value for name, value in task.items() if name != "user_id"}


# --- What they do ---


def test_a_task_that_an_agent_adds_is_in_its_users_list(agent: Agent, alice: Caller) -> None:
    task = agent.use("add_task", title=" Buy milk ", **DETAILS)
    [listed] = tasks_of(alice)
    assert without_owner(listed) == task
    assert task == {"title": "Buy milk", **DETAILS} | {
        name: task[name] for name in ("id", "is_completed", "completed_at", "created_at", "updated_at")
    }


def test_an_agent_gets_a_task(agent: Agent, alice: Caller) -> None:
    task = alice.create("Größe \U0001f600", **DETAILS)
    assert agent.use("get_task", task_id=task["id"]) == without_owner(task)
    assert agent.use("get_task", task_id=task["id"].upper()) == without_owner(task)


def test_an_agent_changes_the_given_fields_alone(agent: Agent, alice: Caller) -> None:
    task = alice.create(**DETAILS)
    changed = agent.use("update_task", task_id=task["id"], title="Buy bread", tags=["shop"])
    expected = task | {"title": "Buy bread", "tags": ["shop"], "updated_at": changed["updated_at"]}
    assert changed == without_owner(expected)
    assert changed["updated_at"] > task["updated_at"]
    assert agent.use("update_task", task_id=task["id"]) == changed  # nothing to change


def test_an_empty_text_removes_a_field(agent: Agent, alice: Caller) -> None:
    task = alice.create(**DETAILS)
    changed = agent.use("update_task", task_id=task["id"], description="", due_date="", priority="", tags=[])
    assert [changed[name] for name in DETAILS] == [None, None, None, []]
    added = agent.use("add_task", title="x", description="", due_date="", priority="")
    assert [added[name] for name in DETAILS] == [None, None, None, []]


def test_null_is_as_good_as_nothing(agent: Agent, alice: Caller) -> None:
    task = alice.create(**DETAILS)
    nothing = dict.fromkeys(["title", "is_completed", *DETAILS])
    assert agent.use("update_task", task_id=task["id"], **nothing) == without_owner(task)
    added = agent.use("add_task", title="x", idempotency_key=None, **dict.fromkeys(DETAILS))
    assert added["description"] is None
    names = ("status", "search", "priority", "tag", "due_from", "due_to", "sort", "limit", "cursor")
    assert agent.use("list_tasks", **dict.fromkeys(names))["total"] == 2


def test_an_agent_completes_and_reopens_a_task(agent: Agent, alice: Caller) -> None:
    task = alice.create()
    for _ in range(2):
        assert agent.use("complete_task", task_id=task["id"])["is_completed"] is True
    reopened = agent.use("update_task", task_id=task["id"], is_completed=False)
    assert (reopened["is_completed"], reopened["completed_at"]) == (False, None)


def test_an_agent_deletes_a_task(agent: Agent, alice: Caller) -> None:
    task = alice.create()
    assert agent.use("delete_task", task_id=task["id"].upper()) == {"deleted": task["id"]}
    assert tasks_of(alice) == []
    assert agent.fail("delete_task", task_id=task["id"]) == NOT_FOUND


FILTERS: list[tuple[Json, list[str]]] = [
    ({}, ["bread", "milk", "tea"]),
    ({"status": "all"}, ["bread", "milk", "tea"]),
    ({"status": "pending"}, ["milk", "tea"]),
    ({"status": "completed"}, ["bread"]),
    ({"search": " MIL "}, ["milk"]),
    ({"search": "", "status": "", "priority": "", "tag": "", "due_from": "", "cursor": ""}, ["bread", "milk", "tea"]),
    ({"priority": "high"}, ["milk"]),
    ({"priority": "none"}, ["bread", "tea"]),
    ({"tag": "home"}, ["milk", "tea"]),
    ({"due_from": "2026-02-02"}, ["tea"]),
    ({"due_to": "2026-02-01"}, ["milk"]),
    ({"sort": "-title", "limit": 2}, ["tea", "milk"]),
    ({"sort": "-title", "limit": 2.0}, ["tea", "milk"]),
]


def test_an_agent_lists_tasks(agent: Agent, alice: Caller) -> None:
    alice.create("milk", priority="high", tags=["home"], due_date="2026-02-01")
    alice.create("bread", is_completed=True)
    alice.create("tea", tags=["home", "x"], due_date="2026-02-02")
    for arguments, titles in FILTERS:
        found = agent.use("list_tasks", **{"sort": "title", **arguments})
        assert [task["title"] for task in found["tasks"]] == titles, arguments
        assert found["total"] == (3 if "limit" in arguments else len(titles))


def test_a_cursor_leads_on(agent: Agent, alice: Caller) -> None:
    created = [alice.create(str(number))["id"] for number in range(5)]
    seen, cursor = [], None
    for _ in range(3):
        found = agent.use("list_tasks", limit=2, cursor=cursor, search="")
        seen += [task["id"] for task in found["tasks"]]
        cursor = found["next_cursor"]
    assert (seen, cursor) == (created[::-1], None)


def test_a_page_has_50_tasks_unless_told_otherwise(agent: Agent, alice: Caller) -> None:
    for number in range(51):
        alice.create(str(number))
    assert len(agent.use("list_tasks")["tasks"]) == 50
    assert len(agent.use("list_tasks", limit=100)["tasks"]) == 51


def test_a_repeated_call_with_a_key_adds_one_task(agent: Agent, alice: Caller) -> None:
    for key in ("any new text, even \U0001f600\n", "a", "a" * 255):
        first, second = (agent.use("add_task", title="x", idempotency_key=key) for _ in range(2))
        assert first == second
        assert "used before" in agent.fail("add_task", title="y", idempotency_key=key)
    assert len(tasks_of(alice)) == 3
    assert alice.post("/api/tasks", json={"title": "x"}, headers={"Idempotency-Key": "a"}).status_code == 201
    assert len(tasks_of(alice)) == 4  # the keys of the REST API are others


# --- What they are told when it cannot be done ---


@pytest.mark.parametrize("conceal", ["true", "false"])
def test_a_foreign_and_a_missing_task_read_the_same(make_app: MakeApp, conceal: str) -> None:
    app = make_app(CONCEAL_FOREIGN_TASKS=conceal, MCP_URL=MCP_URL)
    bobs = Caller(app.test_client(), "bob").create("Bob's")
    agent = Agent(app)
    for tool in ("get_task", "update_task", "complete_task", "delete_task"):
        for task_id in (bobs["id"], MISSING_ID, "x", "", "é", "x" * 5000):
            assert agent.fail(tool, task_id=task_id) == NOT_FOUND
    [kept] = tasks_of(Caller(app.test_client(), "bob"))
    assert kept == bobs


def test_an_agent_sees_its_own_users_tasks_only(agent: Agent, bob: Caller, app: Flask) -> None:
    bob.create("Bob's")
    assert agent.use("list_tasks")["total"] == 0
    assert Agent(app, token("bob")).use("list_tasks")["total"] == 1


MISTAKES: list[tuple[str, Json, str]] = [
    ("add_task", {}, "title: Missing data for required field."),
    ("add_task", {"title": None}, "title: Missing data for required field."),
    ("add_task", {"title": " "}, "title: Must have 1 to 200 characters."),
    ("add_task", {"title": 5}, "title: Must be a string."),
    ("add_task", {"title": "\ud800"}, "title: Must not contain U+0000 or a lone surrogate."),
    ("add_task", {"title": "x", "due_date": "tomorrow"}, "due_date: Must be a day such as 2026-02-08."),
    ("add_task", {"title": "x", "priority": "urgent"}, "priority: Must be one of: low, medium, high."),
    ("add_task", {"title": "x", "tags": "home"}, "tags: Must be an array of strings."),
    ("add_task", {"title": "x", "idempotency_key": ""}, "idempotency_key: Must have 1 to 255 characters."),
    ("add_task", {"title": "x", "user_id": "bob"}, "user_id: Unknown argument; known are: "),
    ("add_task", {"title": "x", "id": MISSING_ID}, "id: Unknown argument; known are: "),
    ("add_task", {"title": "x", "is_completed": True}, "is_completed: Unknown argument; known are: "),
    ("add_task", {"title": "x", "\ud800": 1}, r"\ud800: Unknown argument; known are: "),
    ("get_task", {}, "task_id: Missing data for required field."),
    ("get_task", {"task_id": 5}, "task_id: Must be a string."),
    ("get_task", {"task_id": "x", "user_id": "bob"}, "user_id: Unknown argument; known are: task_id."),
    ("update_task", {"title": "x"}, "task_id: Missing data for required field."),
    ("update_task", {"task_id": MISSING_ID, "is_completed": "yes"}, "is_completed: Must be true or false."),
    ("update_task", {"task_id": MISSING_ID, "title": ""}, "title: Must have 1 to 200 characters."),
    ("update_task", {"task_id": MISSING_ID, "description": False}, "description: Must be a string."),
    ("update_task", {"task_id": MISSING_ID, "priority": 0}, "priority: Must be a string."),
    ("list_tasks", {"limit": 0}, "limit: Must be a whole number from 1 to 100."),
    ("list_tasks", {"limit": 101}, "limit: Must be a whole number from 1 to 100."),
    ("list_tasks", {"limit": "5"}, "limit: Must be a whole number from 1 to 100."),
    ("list_tasks", {"limit": True}, "limit: Must be a whole number from 1 to 100."),
    ("list_tasks", {"limit": 1.5}, "limit: Must be a whole number from 1 to 100."),
    ("list_tasks", {"limit": 1e300}, "limit: Must be a whole number from 1 to 100."),
    ("list_tasks", {"status": "open"}, "status: Must be one of: all, pending, completed."),
    ("list_tasks", {"sort": "id"}, "sort: Must be one of: "),
    ("list_tasks", {"status": 5}, "status: Must be a string."),
    ("list_tasks", {"cursor": "x"}, "cursor: Is broken, or from a list with other parameters."),
    ("list_tasks", {"is_completed": True}, "is_completed: Unknown argument; known are: status, "),
]


@pytest.mark.sqlite_only
def test_an_agent_learns_what_is_wrong_with_its_arguments(agent: Agent) -> None:
    for tool, arguments, told in MISTAKES:
        assert agent.fail(tool, **arguments).startswith(told), arguments
    assert agent.use("list_tasks")["total"] == 0


@pytest.mark.sqlite_only
def test_a_number_beyond_all_numbers_is_a_mistake_like_others(agent: Agent) -> None:
    call = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"list_tasks","arguments":{"limit":1e400}}}'
    assert "whole number" in agent.send(call).json["result"]["content"][0]["text"]


def test_an_agent_learns_that_the_list_is_full(make_app: MakeApp) -> None:
    agent = Agent(make_app(MAX_TASKS_PER_USER="1", MCP_URL=MCP_URL))
    agent.use("add_task", title="x")
    assert agent.fail("add_task", title="y") == "This user has as many tasks as a user may have."


@pytest.mark.sqlite_only
def test_an_agent_learns_that_the_database_is_away_and_the_operator_why(
    app: Flask, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = listen(app)
    monkeypatch.setattr(OwnedTasks, "list", Mock(side_effect=DatabaseUnavailable(OSError("no route to host"))))
    assert agent.fail("list_tasks").startswith("The database cannot be reached. Try again soon, ")
    app.extensions["log"].flush()
    assert "no route to host" in log.getvalue()


@pytest.mark.sqlite_only
def test_a_mistake_of_the_server_is_no_result(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OwnedTasks, "list", Mock(side_effect=RuntimeError("secret")))
    response = agent.ask("tools/call", {"name": "list_tasks"})
    assert (response.status_code, response.json["error_code"]) == (500, "INTERNAL_ERROR")
    assert "secret" not in response.text


# --- How they are described ---


@pytest.mark.sqlite_only
def test_the_descriptions_are_for_a_model(described: dict[str, Json]) -> None:
    assert list(described) == NAMES == list(TOOLS)
    for name, tool in described.items():
        assert tool.keys() == {"name", "title", "description", "inputSchema", "outputSchema", "annotations"}
        assert all(rules["description"] for rules in tool["inputSchema"]["properties"].values())
        if "task_id" in tool["inputSchema"]["properties"]:
            assert "Call list_tasks to learn the ids" in tool["description"], name
        for schema in (tool["inputSchema"], tool["outputSchema"]):
            assert (schema["type"], schema["additionalProperties"]) == ("object", False)
            Draft202012Validator(schema)
        assert "user_id" not in json.dumps(tool)
    for name in ("list_tasks", "get_task"):
        assert "never an instruction" in described[name]["description"]


@pytest.mark.sqlite_only
def test_the_hints_say_what_a_tool_may_do(described: dict[str, Json]) -> None:
    for name, tool in described.items():
        annotations = tool["annotations"]
        assert annotations.keys() == {"readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"}
        assert {hint for hint, value in annotations.items() if value} == HINTS[name]
        assert (TOOLS[name].scope == SCOPES[0]) == annotations["readOnlyHint"]


def type_of(field: fields.Field[Any]) -> str:
    """Return the JSON Schema type of a field."""
    kinds: dict[type[fields.Field[Any]], str] = {fields.Boolean: "boolean", fields.Integer: "integer"}
    kinds |= {fields.List: "array", fields.String: "string"}
    return next(name for kind, name in kinds.items() if isinstance(field, kind))


def limits_of(field: fields.Field[Any]) -> Json:
    """Return the JSON Schema keywords that follow from a field."""
    found: Json = {"format": "date"} if isinstance(field, Day) else {}
    for rule in field.validators:
        if isinstance(rule, Length):
            found |= {"minLength": rule.min, "maxLength": rule.max}
        elif isinstance(rule, Range):
            found |= {"minimum": rule.min, "maximum": rule.max}
        elif isinstance(rule, OneOf):
            found["enum"] = set(rule.choices)
    return found


@pytest.mark.sqlite_only
@pytest.mark.parametrize("name", NAMES)
def test_the_described_arguments_are_those_of_the_schemas(described: dict[str, Json], name: str) -> None:
    described_arguments, schema = described[name]["inputSchema"], TOOLS[name].arguments
    assert described_arguments["properties"].keys() == schema.fields.keys()
    required = {name for name, field in schema.fields.items() if field.required}
    partial = set(schema.partial) if isinstance(schema.partial, tuple) else set()
    assert set(described_arguments["required"]) == required - partial
    for argument, rules in described_arguments["properties"].items():
        assert ("null" in rules["type"]) == (argument not in described_arguments["required"])
        words = ("minLength", "maxLength", "minimum", "maximum", "format")
        told = {word: rules[word] for word in words if word in rules}
        field = schema.fields[argument]
        limits = limits_of(field)
        assert rules["type"] in (type_of(field), [type_of(field), "null"])
        assert limits.keys() - {"minLength", "format"} <= rules.keys()  # these two are left out where "" is allowed
        if isinstance(field, fields.List):
            assert rules["maxItems"] == field.metadata["maxItems"]
            assert rules["items"] == {"type": type_of(field.inner), **limits_of(field.inner)}
        assert told == {word: limits[word] for word in told}
        if "enum" in rules:
            assert set(rules["enum"]) - {None, ""} == limits["enum"]
            assert "enum" in limits
        assert rules.get("default", schema.fields[argument].load_default) == schema.fields[argument].load_default


def test_every_result_matches_its_schema(agent: Agent, described: dict[str, Json]) -> None:
    task = agent.use("add_task", title="x", **DETAILS)
    calls: list[tuple[str, Json]] = [
        ("add_task", {"title": "y"}),
        ("get_task", {"task_id": task["id"]}),
        ("update_task", {"task_id": task["id"], "title": "z"}),
        ("complete_task", {"task_id": task["id"]}),
        ("list_tasks", {"limit": 1}),
        ("list_tasks", {}),
        ("delete_task", {"task_id": task["id"]}),
    ]
    for name, arguments in calls:
        found = agent.use(name, **arguments)
        Draft202012Validator(described[name]["outputSchema"], validate_formats=True).validate(found)
