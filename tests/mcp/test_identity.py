"""Who calls: a user with the own token, or an agent with the scopes that the user gave it; nobody else."""

import io
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
from flask import Flask

from tests.conftest import MISSING_ID, MakeApp, assert_error
from tests.mcp.agents import MCP_ISSUER, MCP_URL, METADATA_URL, SETTINGS, Agent, agents_token
from tests.mcp.test_protocol import NAMES
from tests.support.tokens import token
from tests.telemetry.test_logs import listen
from todo_api.auth.tokens import TokenVerifier
from todo_api.mcp.tools import TOOLS

pytestmark = pytest.mark.sqlite_only

USERS = {"iss": "https://app.example.com", "aud": "https://api.example.com"}
CHALLENGE = f'resource_metadata="{METADATA_URL}", scope="tasks:read tasks:write"'


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app(**SETTINGS, JWT_ISSUER=USERS["iss"], JWT_AUDIENCE=USERS["aud"])


def status_at_api(app: Flask, bearer: str) -> int:
    return app.test_client().get("/api/tasks", headers={"Authorization": f"Bearer {bearer}"}).status_code


def status_at_mcp(app: Flask, bearer: str) -> int:
    return int(Agent(app, bearer).ask("ping").status_code)


def test_a_users_own_token_may_do_everything(app: Flask) -> None:
    agent = Agent(app, token("alice", **USERS))
    task = agent.use("add_task", title="x")
    assert agent.use("list_tasks")["tasks"] == [task]


@pytest.mark.parametrize("audience", [MCP_URL, [MCP_URL], [MCP_URL, "https://app.example.com/api/auth/userinfo"]])
def test_an_agents_token_is_accepted_at_mcp_alone(app: Flask, audience: Any) -> None:
    bearer = agents_token(aud=audience)
    assert Agent(app, bearer).use("list_tasks")["total"] == 0
    assert status_at_api(app, bearer) == 401


def test_a_token_with_both_audiences_is_an_agents(app: Flask) -> None:
    bearer = agents_token(aud=[USERS["aud"], MCP_URL], scope="tasks:read")
    assert (status_at_mcp(app, bearer), status_at_api(app, bearer)) == (200, 401)
    assert Agent(app, bearer).ask("tools/call", {"name": "add_task"}).status_code == 403
    assert status_at_mcp(app, agents_token(aud=[USERS["aud"], MCP_URL], iss=USERS["iss"])) == 401


@pytest.mark.parametrize("first", ["api", "mcp"])
def test_the_cache_keeps_the_kinds_apart(app: Flask, first: str) -> None:
    bearer = agents_token(scope="tasks:read")
    for _ in range(2):
        if first == "api":
            assert status_at_api(app, bearer) == 401
        assert status_at_mcp(app, bearer) == 200
        assert Agent(app, bearer).ask("tools/call", {"name": "add_task"}).status_code == 403
        assert status_at_api(app, bearer) == 401


def test_an_agents_token_is_not_verified_again_to_be_refused(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    bearer = agents_token()
    assert status_at_mcp(app, bearer) == 200
    monkeypatch.setattr(TokenVerifier, "verify", Mock(side_effect=AssertionError))
    assert status_at_api(app, bearer) == 401


def test_no_route_of_the_api_accepts_an_agents_token(app: Flask) -> None:
    client, headers = app.test_client(), {"Authorization": f"Bearer {agents_token()}"}
    Agent(app, agents_token()).ask("ping")  # from here on the token is in the cache
    routes = [
        (method, rule.rule.replace("<task:task_id>", MISSING_ID))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"OPTIONS", "HEAD"}
        if rule.rule.startswith("/api/")
    ]
    assert len(routes) >= 9
    for method, path in routes:
        assert_error(client.open(path, method=method, headers=headers, json={"title": "x"}), 401, "TOKEN_INVALID")


def test_in_development_the_api_says_that_the_token_is_an_agents(app: Flask, log: io.StringIO) -> None:
    response: Any = app.test_client().get("/api/tasks", headers={"Authorization": f"Bearer {agents_token()}"})
    assert response.json["detail"] == "The token is not valid: it is an agent's, for /mcp alone."
    assert "token refused: audience" in log.getvalue()


REFUSED: dict[str, Callable[[], str]] = {
    "a client's own": lambda: agents_token("agent"),
    "bound to a key": lambda: agents_token(cnf={"jkt": "x"}),
    "bound to no key": lambda: agents_token(cnf={}),
    "a user's issuer": lambda: agents_token(iss=USERS["iss"]),
    "a user's audience": lambda: agents_token(aud=USERS["aud"]),
    "the client as audience": lambda: agents_token(aud="agent"),
    "no audience": lambda: agents_token(aud=None),
    "no issuer": lambda: agents_token(iss=None),
    "an audience that is no text": lambda: agents_token(aud=[MCP_URL, 1]),
    "the audience with a slash": lambda: agents_token(aud=f"{MCP_URL}/"),
    "another issuer": lambda: agents_token(iss="https://evil.example"),
    "expired": lambda: agents_token(exp=17),
    "opaque": lambda: "pdXlQzBhVvNqGfEEfmrPqkrHbTQzZAaN",
}


def test_a_token_that_belongs_to_neither_kind_is_refused_everywhere(app: Flask) -> None:
    for kind, text in REFUSED.items():
        bearer = text()
        assert (status_at_mcp(app, bearer), status_at_api(app, bearer)) == (401, 401), kind
        checked = app.test_cli_runner().invoke(args=["token-check", bearer])
        assert checked.exit_code == 1, kind
        assert "FAIL" in checked.stdout, kind


def test_a_users_own_token_is_bound_to_no_client_and_no_key(app: Flask) -> None:
    for claims in ({"cnf": {"jkt": "x"}}, {"client_id": "alice"}):
        bearer = token("alice", **USERS, **claims)
        assert (status_at_mcp(app, bearer), status_at_api(app, bearer)) == (401, 401), claims


def test_where_any_issuer_is_accepted_that_of_agents_is_not(make_app: MakeApp) -> None:
    app = make_app(**SETTINGS)
    for audience in ("x", "client", None):
        bearer = token("alice", iss=MCP_ISSUER, aud=audience)
        assert (status_at_mcp(app, bearer), status_at_api(app, bearer)) == (401, 401), audience
        checked = app.test_cli_runner().invoke(args=["token-check", bearer])
        assert f"FAIL iss: expected any but that of agents' tokens; found '{MCP_ISSUER}'" in checked.stdout
        assert "FAIL aud" not in checked.stdout
    assert status_at_api(app, token("alice", iss="anyone")) == 200


def test_without_an_issuer_for_agents_there_are_none(make_app: MakeApp) -> None:
    app = make_app(MCP_URL=MCP_URL)
    for issuer in (MCP_ISSUER, None, ""):
        bearer = agents_token(iss=issuer)
        assert (status_at_mcp(app, bearer), status_at_api(app, bearer)) == (401, 401)
    checked = app.test_cli_runner().invoke(args=["token-check", agents_token()])
    assert "FAIL iss: expected the value of MCP_ISSUER, which is not set" in checked.stdout
    assert status_at_mcp(app, token("alice")) == 200


# --- Scopes ---


@pytest.mark.parametrize("scope", ["tasks:read", "tasks:write", "openid", "", "tasks:read\ttasks:write"])
def test_a_tool_needs_its_scope_and_writing_includes_reading(app: Flask, scope: str) -> None:
    agent = Agent(app, agents_token(scope=scope))
    for name in NAMES:
        response = agent.ask("tools/call", {"name": name, "arguments": {"user_id": "bob"}})
        if scope == "tasks:write" or (scope == "tasks:read" and TOOLS[name].scope == scope):
            assert response.json["result"]["isError"] is True  # by its arguments, which are judged later
            continue
        assert_error(response, 403, "SCOPE_MISSING")
        expected = f'Bearer error="insufficient_scope", resource_metadata="{METADATA_URL}", scope="{TOOLS[name].scope}"'
        assert response.headers["WWW-Authenticate"] == expected


def test_a_scope_that_is_no_text_allows_nothing(app: Flask) -> None:
    scopes: list[Any] = [None, 5, ["tasks:read"], ["x tasks:write x"], {"x": "x tasks:write x"}]
    for scope in scopes:
        agent = Agent(app, agents_token(scope=scope))
        assert_error(agent.ask("tools/call", {"name": "list_tasks"}), 403, "SCOPE_MISSING")
        assert len(agent.ask("tools/list").json["result"]["tools"]) == 6  # the same for every token
        assert status_at_api(app, agents_token(scope=scope)) == 401


def test_the_protocol_is_judged_before_the_scope(app: Flask) -> None:
    agent = Agent(app, agents_token(scope=""))
    assert agent.ask("tools/call", {"name": "x"}).json["error"]["code"] == -32602


# --- Challenges ---


def test_without_a_token_an_agent_learns_where_to_get_one(app: Flask) -> None:
    response = app.test_client().post("/mcp", json={})
    assert_error(response, 401, "TOKEN_MISSING")
    assert response.headers["WWW-Authenticate"] == f"Bearer {CHALLENGE}"


def test_with_an_invalid_token_too(app: Flask) -> None:
    for bearer in ("x", agents_token(exp=17), agents_token(aud="x")):
        response = Agent(app, bearer).ask("ping")
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == f'Bearer error="invalid_token", {CHALLENGE}'


def test_without_an_address_there_is_no_metadata_to_point_to(make_app: MakeApp) -> None:
    response = make_app().test_client().post("/mcp", json={}, headers={"Host": "evil.example"})
    assert response.headers["WWW-Authenticate"] == 'Bearer scope="tasks:read tasks:write"'


# --- Pages ---


def test_a_page_of_another_origin_is_refused_before_its_token(app: Flask) -> None:
    for origin in ("https://evil.example", "null", "", "https://api.example.com.evil.example", "x"):
        for bearer in (token("alice", **USERS), "x"):
            assert_error(Agent(app, bearer).ask("ping", Origin=origin), 403, "ORIGIN_FORBIDDEN")


def test_pages_of_the_configured_origins_and_of_the_server_itself_may_call(app: Flask) -> None:
    for origin in ("http://localhost:3000", "https://api.example.com"):
        assert Agent(app, token("alice", **USERS)).ask("ping", Origin=origin).status_code == 200


def test_a_page_may_send_the_headers_of_the_protocol(app: Flask) -> None:
    headers = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"}
    for path in ("/mcp", "/.well-known/oauth-protected-resource/mcp"):
        allowed = app.test_client().options(path, headers=headers).headers["Access-Control-Allow-Headers"]
        for name in ("MCP-Protocol-Version", "Mcp-Method", "Mcp-Name", "Mcp-Session-Id", "Last-Event-ID"):
            assert name in allowed.split(", ")


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "[::1]:8000"])
def test_without_an_address_pages_of_the_server_itself_may_call_on_loopback(make_app: MakeApp, host: str) -> None:
    agent = Agent(make_app())
    assert agent.ask("ping", Host=host, Origin=f"http://{host}").status_code == 200
    assert_error(agent.ask("ping", Host=host, Origin="http://localhost:1"), 403, "ORIGIN_FORBIDDEN")
    rebound = "evil.example"  # a name that now resolves to the user's machine
    assert_error(agent.ask("ping", Host=rebound, Origin=f"http://{rebound}"), 403, "ORIGIN_FORBIDDEN")


# --- The metadata ---


@pytest.mark.parametrize("path", ["/mcp", ""])
@pytest.mark.parametrize("origin", [None, "http://localhost:3000", "https://anyone.example"])
def test_the_metadata_leads_to_the_authorization_server(app: Flask, path: str, origin: str | None) -> None:
    headers = {"Host": "evil.example"} | ({"Origin": origin} if origin else {})
    response = app.test_client().get(f"/.well-known/oauth-protected-resource{path}", headers=headers)
    assert (response.status_code, response.content_type) == (200, "application/json")
    assert response.json == {
        "resource": MCP_URL,
        "authorization_servers": [MCP_ISSUER],
        "scopes_supported": ["tasks:read", "tasks:write"],
        "bearer_methods_supported": ["header"],
        "resource_name": "Tasks",
    }
    assert response.headers.getlist("Cache-Control") == ["public, max-age=300"]
    assert response.headers.getlist("Access-Control-Allow-Origin") == ["*"]


@pytest.mark.parametrize("settings", [{}, {"MCP_URL": MCP_URL}, {"MCP_ISSUER": MCP_ISSUER}], ids=str)
def test_without_an_address_or_issuer_there_is_no_metadata(make_app: MakeApp, settings: dict[str, str]) -> None:
    client = make_app(**settings).test_client()
    for path in ("/mcp", ""):
        assert_error(client.get(f"/.well-known/oauth-protected-resource{path}"), 404, "NOT_FOUND")


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_outside_development_there_is_a_server_only_if_it_has_an_address(make_app: MakeApp) -> None:
    assert_error(Agent(make_app()).ask("ping"), 404, "NOT_FOUND")
    assert Agent(make_app(MCP_URL=MCP_URL)).ask("ping").status_code == 200


# --- What operators see ---


def test_the_operator_learns_what_an_agents_token_allows(app: Flask) -> None:
    checked = app.test_cli_runner().invoke(args=["token-check", agents_token(scope="tasks:read openid")])
    assert checked.exit_code == 0
    assert checked.stdout.splitlines()[-1] == "accepted at /mcp alone, with scope: openid tasks:read"
    assert f"ok   aud: expected '{MCP_URL}'; found '{MCP_URL}'" in checked.stdout


def test_the_log_and_the_metrics_name_the_tool_and_the_outcome(make_app: MakeApp) -> None:
    app = make_app(**SETTINGS)
    log, agent = listen(app), Agent(app)
    agent.use("add_task", title="Private title")
    agent.fail("get_task", task_id=MISSING_ID)
    agent.fail("get_task", text="Private title")
    agent.ask("tools/call", {"name": "Private tool"})
    agent.ask("Private method")
    agent.send(b"x")
    Agent(app, agents_token(scope="tasks:read")).ask("tools/call", {"name": "delete_task"})
    app.extensions["log"].flush()
    assert [(line["route"], line["tool"], line["status"], line["error_code"]) for line in log.lines] == [
        ("/mcp", "add_task", 200, None),
        ("/mcp", "get_task", 200, "TASK_NOT_FOUND"),
        ("/mcp", "get_task", 200, "VALIDATION_ERROR"),
        ("/mcp", None, 200, "RPC-32602"),
        ("/mcp", None, 200, "RPC-32601"),
        ("/mcp", None, 400, "RPC-32700"),
        ("/mcp", "delete_task", 403, "SCOPE_MISSING"),
    ]
    assert "Private" not in log.getvalue()
    metrics = app.test_client().get("/metrics").text
    for tool, outcome in (("add_task", "OK"), ("get_task", "TASK_NOT_FOUND"), ("delete_task", "SCOPE_MISSING")):
        assert f'todo_api_tool_calls_total{{outcome="{outcome}",tool="{tool}"}} 1.0' in metrics
