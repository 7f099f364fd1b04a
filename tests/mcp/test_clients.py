"""The official clients of both eras manage tasks through a real gunicorn on PostgreSQL."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema_rs
import pytest

from tests.conftest import MISSING_ID
from tests.mcp.agents import HINTS
from tests.support.mcp_clients import KINDS, Kind, RunningClient, mcp_service, mcp_url, running_client
from tests.support.programs import Server, free_port
from tests.support.threads import wait_until
from tests.support.tokens import SECRET, token

pytestmark = pytest.mark.mcp

FALSE_HINTS = dict.fromkeys(("readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"), False)
INVALID_PARAMS = -32602


@pytest.fixture(scope="module")
def server(migrated_database: Callable[[str], str]) -> Iterator[Server]:
    with mcp_service(free_port(), DATABASE_URL=migrated_database("clients"), BETTER_AUTH_SECRET=SECRET) as started:
        yield started


@pytest.fixture(scope="module")
def url(server: Server) -> str:
    return mcp_url(server.port)


@pytest.fixture(scope="module", params=KINDS.values(), ids=list(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture(scope="module")
def client(kind: Kind, url: str) -> Iterator[RunningClient]:
    """A connected client with a user's own token; each client has a user of its own."""
    user = f"{kind.program} {kind.mode} {kind.sdk}"
    with running_client(kind, url, token(user)) as started:
        assert started.answer() == {"connected": kind.version, "token": None}
        yield started


@pytest.fixture(scope="module")
def schemas(client: RunningClient) -> dict[str, Any]:
    """The output schemas by tool."""
    return {tool["name"]: tool["outputSchema"] for tool in client.tools()}


Call = Callable[..., Any]


@pytest.fixture
def call(client: RunningClient, schemas: dict[str, Any]) -> Call:
    """Call a tool that succeeds, and return its result, which matches its schema and its text."""

    def checked(tool: str, **arguments: Any) -> Any:
        result = client.call(tool, **arguments)
        assert result["isError"] is False, result
        found = result["structuredContent"]
        jsonschema_rs.Draft202012Validator(schemas[tool], validate_formats=True).validate(found)
        [block] = result["content"]
        assert (block["type"], json.loads(block["text"])) == ("text", found)
        assert "user_id" not in block["text"]
        return found

    return checked


def assert_refused(result: Any) -> str:
    """Return the sentence with which a tool tells the model what to mend."""
    assert result["isError"] is True, result
    assert "structuredContent" not in result
    [block] = result["content"]
    assert block["type"] == "text"
    return str(block["text"])


def test_a_client_lists_the_six_tools_with_their_hints_and_schemas(client: RunningClient) -> None:
    tools = client.tools()
    assert [tool["name"] for tool in tools] == list(HINTS)
    for tool in tools:
        hints = FALSE_HINTS | dict.fromkeys(HINTS[tool["name"]], True)
        assert {name: tool["annotations"][name] for name in hints} == hints
        assert len(tool["description"]) > 40
        for schema in (tool["inputSchema"], tool["outputSchema"]):
            jsonschema_rs.Draft202012Validator(schema)  # raises for a schema that is none
            assert schema["type"] == "object"


def test_a_client_takes_a_task_through_its_life_with_all_six_tools(client: RunningClient, call: Call) -> None:
    task = call("add_task", title="Buy milk", description="Two litres", priority="high", tags=["shop"])
    assert call("get_task", task_id=task["id"]) == task
    assert task in call("list_tasks")["tasks"]
    changed = call("update_task", task_id=task["id"], title="Buy oat milk", description="")
    assert (changed["title"], changed["description"]) == ("Buy oat milk", None)
    done = call("complete_task", task_id=task["id"])
    assert (task["is_completed"], done["is_completed"]) == (False, True)
    assert call("complete_task", task_id=task["id"])["is_completed"] is True
    call("delete_task", task_id=task["id"])
    assert_refused(client.call("get_task", task_id=task["id"]))


def test_a_client_filters_sorts_and_pages(call: Call) -> None:
    for number in range(3):
        call("add_task", title=f"Paged {number}", tags=["paged"], due_date=f"2030-01-0{number + 1}")
    call("complete_task", task_id=call("list_tasks", tag="paged", search="Paged 2")["tasks"][0]["id"])
    assert titles(call("list_tasks", tag="paged", status="pending", sort="title")) == ["Paged 0", "Paged 1"]
    assert titles(call("list_tasks", tag="paged", status="completed", priority=None)) == ["Paged 2"]
    assert titles(call("list_tasks", tag="paged", due_from="2030-01-02", due_to="2030-01-02")) == ["Paged 1"]
    first = call("list_tasks", tag="paged", sort="title", limit=2)
    assert (first["total"], titles(first)) == (3, ["Paged 0", "Paged 1"])
    second = call("list_tasks", tag="paged", sort="title", limit=2, cursor=first["next_cursor"])
    assert (second["next_cursor"], titles(second)) == (None, ["Paged 2"])


def titles(found: dict[str, Any]) -> list[str]:
    return [task["title"] for task in found["tasks"]]


def test_a_repeated_call_with_the_same_idempotency_key_adds_no_second_task(client: RunningClient, call: Call) -> None:
    first = call("add_task", title="Once", idempotency_key="k1", tags=["once"])
    assert call("add_task", title="Once", idempotency_key="k1", tags=["once"]) == first
    assert titles(call("list_tasks", tag="once")) == ["Once"]
    assert_refused(client.call("add_task", title="Another", idempotency_key="k1"))


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("add_task", {"title": ""}),
        ("add_task", {"title": "No such priority", "priority": "sometime"}),
        ("add_task", {"title": "Someone else's", "user_id": "bob"}),
        ("add_task", {}),
        ("list_tasks", {"cursor": "no cursor"}),
        ("list_tasks", {"limit": 101}),
        ("get_task", {"task_id": MISSING_ID}),
        ("get_task", {"task_id": "no id"}),
        ("update_task", {"task_id": MISSING_ID, "title": "x"}),
        ("complete_task", {"task_id": MISSING_ID}),
        ("delete_task", {"task_id": MISSING_ID}),
    ],
)
def test_a_failing_call_is_a_sentence_for_the_model(
    client: RunningClient, call: Call, tool: str, arguments: dict[str, Any]
) -> None:
    assert len(assert_refused(client.call(tool, **arguments)).split()) > 2
    call("list_tasks")  # the connection still works


def test_the_task_of_another_user_reads_like_a_missing_one(client: RunningClient, kind: Kind, url: str) -> None:
    with running_client(KINDS["Python"], url, token("bob")) as bob:
        bob.answer()
        foreign = bob.call("add_task", title="Bob's")["structuredContent"]["id"]
    for tool in ("get_task", "complete_task", "delete_task"):
        told = assert_refused(client.call(tool, task_id=foreign))
        assert told == assert_refused(client.call(tool, task_id=MISSING_ID))


def test_an_unknown_tool_is_an_error_of_the_protocol(client: RunningClient, call: Call) -> None:
    assert client.call("drop_tasks") == INVALID_PARAMS
    call("list_tasks")


def test_the_log_names_tools_and_no_arguments(client: RunningClient, call: Call, server: Server) -> None:
    task = call("add_task", title="Unlogged title", tags=["unlogged"])
    assert_refused(client.call("update_task", task_id=task["id"], title="Unlogged " * 40))
    client.call("unlogged_tool")
    logged = {("add_task", None), ("update_task", "VALIDATION_ERROR"), (None, "RPC-32602")}
    wait_until(lambda: logged <= calls_in(server.program.lines))
    assert "nlogged" not in server.program.output
    assert task["id"] not in server.program.output


def calls_in(lines: list[str]) -> set[tuple[str | None, str | None]]:
    """Return the tool and the error code of each logged call."""
    entries = [json.loads(line) for line in list(lines) if line.startswith("{")]
    return {(entry["tool"], entry["error_code"]) for entry in entries if entry.get("route") == "/mcp"}
