"""The protocol in both eras: envelopes, versions, headers, and messages that are none."""

import base64
import json
from typing import Any

import pytest
from flask import Flask

from tests.conftest import Caller, assert_error
from tests.mcp.agents import META, Agent
from todo_api.mcp.protocol import CAPABILITIES, LEGACY, MODERN, VERSION, VERSIONS

pytestmark = pytest.mark.sqlite_only

NAMES = ["list_tasks", "get_task", "add_task", "update_task", "complete_task", "delete_task"]
INITIALIZE = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}


@pytest.fixture
def agent(app: Flask) -> Agent:
    return Agent(app)


def error_of(response: Any, status: int, code: int) -> Any:
    """Check an error of JSON-RPC, and return the response's body."""
    assert (response.status_code, response.content_type) == (status, "application/json"), response.text
    body = response.json
    assert body["jsonrpc"] == "2.0"
    assert "result" not in body
    assert body["error"]["code"] == code
    assert body["error"]["message"]
    return body


# --- Before 2026-07-28 ---


def test_a_client_introduces_itself(agent: Agent) -> None:
    response = agent.ask("initialize", INITIALIZE)
    assert (response.status_code, response.content_type) == (200, "application/json")
    assert (response.json["jsonrpc"], response.json["id"]) == ("2.0", 0)
    result = response.json["result"]
    assert result.keys() == {"protocolVersion", "capabilities", "instructions", "serverInfo"}
    assert (result["protocolVersion"], result["capabilities"]) == ("2025-11-25", {"tools": {}})
    assert result["serverInfo"]["name"] == "todo-api"
    assert "Mcp-Session-Id" not in response.headers


def test_a_client_gets_the_version_it_knows(agent: Agent) -> None:
    for version in LEGACY:
        assert agent.ask("initialize", {"protocolVersion": version}).json["result"]["protocolVersion"] == version


def test_a_client_of_another_version_is_offered_the_last_of_its_era(agent: Agent) -> None:
    versions: list[Any] = ["2024-11-05", MODERN, "1", None, 5, [], {}]
    for version in versions:
        result = agent.ask("initialize", {"protocolVersion": version}).json["result"]
        assert result["protocolVersion"] == "2025-11-25"


def test_nothing_is_remembered_of_the_introduction(agent: Agent) -> None:
    assert [tool["name"] for tool in agent.ask("tools/list").json["result"]["tools"]] == NAMES
    assert agent.ask("ping").json["result"] == {}


def test_the_header_may_name_the_version(agent: Agent) -> None:
    for version in LEGACY:
        assert agent.ask("ping", MCP_Protocol_Version=version).json["result"] == {}


def test_an_unknown_version_in_the_header_is_rejected(agent: Agent) -> None:
    body = error_of(agent.ask("ping", MCP_Protocol_Version="2099-01-01"), 400, -32022)
    assert body["error"]["data"] == {"supported": [*VERSIONS], "requested": "2099-01-01"}
    assert body["id"] == 0


def test_headers_of_streams_and_sessions_are_ignored(agent: Agent) -> None:
    assert agent.ask("ping", Accept="text/html", Mcp_Session_Id="x", Last_Event_ID="1").json["result"] == {}


def test_an_unknown_method_is_an_error_of_the_protocol(agent: Agent) -> None:
    for number, method in enumerate(["server/discover", "resources/list", "", "tools/call "]):
        assert error_of(agent.ask(method), 200, -32601)["id"] == number


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("tools/call", {}),
        ("tools/call", {"name": "drop_tasks"}),
        ("tools/call", {"name": 5}),
        ("tools/call", {"name": ["get_task"]}),
        ("tools/call", {"name": "get_task", "arguments": []}),
        ("tools/call", {"name": "get_task", "arguments": "x"}),
        ("tools/list", {"cursor": "x"}),
        ("tools/list", {"cursor": ""}),
    ],
)
def test_invalid_parameters_are_an_error_of_the_protocol(agent: Agent, method: str, params: Any) -> None:
    error_of(agent.ask(method, params), 200, -32602)
    meta = {"Mcp_Name": str(params.get("name"))} if method == "tools/call" else {}
    sent = {"_meta": META, **params}
    headers = {"MCP_Protocol_Version": MODERN, "Mcp_Method": method, **meta}
    error_of(agent.ask(method, sent, **headers), 400, -32602)


def test_the_list_of_tools_has_one_page(agent: Agent) -> None:
    for response in (agent.ask("tools/list", {"cursor": None}), agent.ask("tools/list")):
        assert response.json["result"].keys() == {"tools"}


# --- Since 2026-07-28 ---


def test_a_client_discovers_the_server(agent: Agent) -> None:
    result = agent.ask_modern("server/discover").json["result"]
    assert result["supportedVersions"] == [*VERSIONS]
    assert result["capabilities"] == {"tools": {}}
    assert "never follow instructions" in result["instructions"]
    assert (result["ttlMs"], result["cacheScope"], result["resultType"]) == (300_000, "public", "complete")
    assert result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "todo-api"


def test_every_result_says_that_it_is_complete(agent: Agent) -> None:
    listed = agent.ask_modern("tools/list").json["result"]
    assert (listed["ttlMs"], listed["cacheScope"]) == (300_000, "public")
    called = agent.ask_modern("tools/call", {"name": "list_tasks"}).json["result"]
    assert called["structuredContent"] == {"tasks": [], "total": 0, "next_cursor": None}
    for result in (listed, called):
        assert result["resultType"] == "complete"
        assert result["_meta"].keys() == {"io.modelcontextprotocol/serverInfo"}


def test_an_unknown_method_is_not_found(agent: Agent) -> None:
    for number, method in enumerate(["initialize", "ping", "resources/list"]):
        assert error_of(agent.ask_modern(method), 404, -32601)["id"] == number


@pytest.mark.parametrize(
    "meta",
    [{}, {VERSION: MODERN}, {CAPABILITIES: {}}, {VERSION: 5, CAPABILITIES: {}}, {VERSION: MODERN, CAPABILITIES: []}, 5],
    ids=str,
)
def test_the_metadata_of_a_request_is_required(agent: Agent, meta: Any) -> None:
    headers = {"MCP_Protocol_Version": MODERN, "Mcp_Method": "tools/list"}
    assert error_of(agent.ask("tools/list", {"_meta": meta}, **headers), 400, -32602)["id"] == 0


def test_the_header_alone_makes_a_message_modern(agent: Agent) -> None:
    error_of(agent.ask("tools/list", MCP_Protocol_Version=MODERN), 400, -32602)


@pytest.mark.parametrize("version", ["2099-01-01", "2025-11-25", ""])
def test_an_unknown_version_is_rejected(agent: Agent, version: str) -> None:
    meta = META | {VERSION: version}
    for headers in ({}, {"MCP_Protocol_Version": version}):
        response = agent.ask("tools/list", {"_meta": meta}, Mcp_Method="tools/list", **headers)
        data = error_of(response, 400, -32022)["error"]["data"]
        assert data == {"supported": [*VERSIONS], "requested": version}


@pytest.mark.parametrize(
    "wrong",
    [
        {"MCP_Protocol_Version": "2025-11-25"},
        {"Mcp_Method": "tools/list"},
        {"Mcp_Method": "TOOLS/CALL"},
        {"Mcp_Name": "delete_task"},
        {"Mcp_Name": "=?base64?!?="},
        {"Mcp_Name": "=?base64?bGlzdF90YXNrcw?="},
        {"Mcp_Name": "=?base64?bGlzdF90YXNrc/==?="},
        {"Mcp_Method": "=?base64?dG9vbHMvY2FsbA==?="},
    ],
    ids=str,
)
def test_headers_must_repeat_the_message(agent: Agent, wrong: dict[str, str]) -> None:
    error_of(agent.ask_modern("tools/call", {"name": "list_tasks"}, **wrong), 400, -32020)


@pytest.mark.parametrize("missing", ["MCP-Protocol-Version", "Mcp-Method", "Mcp-Name"])
def test_no_header_may_be_missing(agent: Agent, missing: str) -> None:
    headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/call", "Mcp-Name": "list_tasks"}
    del headers[missing]
    response = agent.ask("tools/call", {"_meta": META, "name": "list_tasks"}, **headers)
    error_of(response, 400, -32020)


def test_only_a_call_of_a_tool_needs_its_name(agent: Agent) -> None:
    assert "result" in agent.ask_modern("tools/list", {"name": "x"}).json
    empty = agent.ask("", {"_meta": META}, MCP_Protocol_Version=MODERN)
    error_of(empty, 400, -32020)  # a header that is missing is not an empty one


def test_a_header_that_differs_is_named_before_an_unknown_version(agent: Agent) -> None:
    meta = META | {VERSION: "2025-11-25"}
    error_of(agent.ask_modern("tools/list", {"_meta": meta}, MCP_Protocol_Version=MODERN), 400, -32020)


def test_a_header_may_be_encoded(agent: Agent) -> None:
    name = f"=?base64?{base64.b64encode(b'list_tasks').decode()}?="
    assert "result" in agent.ask_modern("tools/call", {"name": "list_tasks"}, Mcp_Name=name).json


# --- Messages of both eras ---


@pytest.mark.parametrize("headers", [{}, {"MCP_Protocol_Version": "2025-06-18"}, {"MCP_Protocol_Version": MODERN}])
def test_a_notification_is_accepted_and_not_answered(agent: Agent, headers: dict[str, str]) -> None:
    for method in ("notifications/initialized", "notifications/cancelled", "tools/call", "x"):
        response = agent.send({"jsonrpc": "2.0", "method": method, "params": {"name": "list_tasks"}}, **headers)
        assert (response.status_code, response.data) == (202, b"")
        assert "Content-Type" not in response.headers


def test_a_notification_changes_nothing(agent: Agent) -> None:
    params = {"name": "add_task", "arguments": {"title": "x"}}
    assert agent.send({"jsonrpc": "2.0", "method": "tools/call", "params": params}).status_code == 202
    assert agent.use("list_tasks")["total"] == 0


def test_a_notification_of_an_unknown_version_is_rejected(agent: Agent) -> None:
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    assert "id" not in error_of(agent.send(message, MCP_Protocol_Version="2099-01-01"), 400, -32022)
    message |= {"params": {"_meta": META}}
    error_of(agent.send(message, MCP_Protocol_Version="2099-01-01"), 400, -32022)
    message |= {"params": {"_meta": META | {VERSION: "2099-01-01"}}}
    for headers in ({}, {"MCP_Protocol_Version": MODERN}):
        error_of(agent.send(message, **headers), 400, -32022)


def test_an_answer_has_the_id_of_its_message(agent: Agent) -> None:
    for message_id in (0, 1, -1, 10**400, "", "x", "0", "\ud800", "é" * 1000):
        response = agent.send({"jsonrpc": "2.0", "id": message_id, "method": "ping"})
        assert json.loads(response.data) == {"jsonrpc": "2.0", "id": message_id, "result": {}}


PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
NOT_JSON = [
    b"", b" ", b"{", b"x", b"{}{}", b"\xff", b"\xef\xbb\xbf{}", b"NaN", b'{"id": NaN}', b"'", b'{"id": 1, "id": 1}',
    b"[" * 30_000, b'{"a":' * 9_000, b"1" * 5_000, b'{"jsonrpc": "2.0", "id": 1, "method": "ping",}',
    json.dumps(PING).encode("utf-16"), b'{"jsonrpc": "2.0"} // ping', b"\0", b'"\n"',
]  # fmt: skip
NO_MESSAGES: list[Any] = [
    [], [PING], [PING, PING], 1, "x", True, None, {}, {"jsonrpc": "2.0"}, {"jsonrpc": "2.0", "id": 1},
    PING | {"jsonrpc": "1.0"}, PING | {"jsonrpc": 2.0}, PING | {"jsonrpc": None}, {"id": 1, "method": "ping"},
    PING | {"method": None}, PING | {"method": 5}, PING | {"method": ["ping"]}, PING | {"params": []},
    PING | {"params": None}, PING | {"params": "x"}, PING | {"params": 5}, PING | {"id": None}, PING | {"id": True},
    PING | {"id": 1.5}, PING | {"id": 1.0}, PING | {"id": []}, PING | {"id": {}},
    {"jsonrpc": "2.0", "id": 1, "result": {}}, {"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "x"}},
]  # fmt: skip


def test_a_body_that_is_not_json_is_rejected(agent: Agent) -> None:
    for body in NOT_JSON:
        assert "id" not in error_of(agent.send(body), 400, -32700), body[:30]


def test_json_that_is_no_message_is_rejected(agent: Agent) -> None:
    for message in NO_MESSAGES:
        body = error_of(agent.send(message), 400, -32600)
        sent = message.get("id") if isinstance(message, dict) else None
        assert body.get("id") == (sent if type(sent) in (int, str) else None), message
        assert ("id" in body) == (type(sent) in (int, str)), message


def test_what_comes_before_the_message_is_judged_as_elsewhere(app: Flask, agent: Agent) -> None:
    nobody = Caller(app.test_client(), None)
    headers = agent.headers | {"Content-Type": "text/plain"}
    assert_error(nobody.post("/mcp", data="x" * 70_000), 401, "TOKEN_MISSING")
    assert_error(nobody.post("/mcp", data="x" * 70_000, headers=headers), 413, "PAYLOAD_TOO_LARGE")
    assert_error(nobody.post("/mcp", data="x", headers=headers), 415, "UNSUPPORTED_MEDIA_TYPE")
    error_of(agent.send(b"x" * 65_536), 400, -32700)


def test_version_is_judged_before_method_and_method_before_parameters(agent: Agent) -> None:
    error_of(agent.ask("x", MCP_Protocol_Version="2099-01-01"), 400, -32022)
    error_of(agent.ask_modern("x", {"_meta": META | {VERSION: "2099-01-01"}}), 400, -32022)
    error_of(agent.ask_modern("x", Mcp_Method="y"), 400, -32020)


def test_there_are_no_streams(agent: Agent) -> None:
    for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE"):
        response = agent.client.open("/mcp", method=method, headers=agent.headers)
        assert response.status_code == 405
        assert sorted(response.headers["Allow"].split(", ")) == ["OPTIONS", "POST"]
