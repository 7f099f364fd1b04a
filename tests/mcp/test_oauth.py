"""Agents that a user lets in: the OAuth flow of the MCP specification with a real Better Auth and a real gunicorn."""

import base64
import hashlib
import http.client
import json
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
import pytest

from tests.support.issuers import BetterAuth, better_auth
from tests.support.mcp_clients import KINDS, REDIRECT, Kind, RunningClient, mcp_service, mcp_url, running_client
from tests.support.programs import Server, free_port

pytestmark = pytest.mark.mcp

READ, WRITE = "tasks:read", "tasks:write"
BOTH = f"{READ} {WRITE}"
VERIFIER = "the-verifier-of-the-tests-is-long-enough-for-PKCE"


def post(url: str, body: str, **headers: str) -> dict[str, Any]:
    """Send a form, unless `headers` say otherwise; return the parsed response."""
    with urllib.request.urlopen(urllib.request.Request(url, body.encode(), headers), timeout=30) as response:
        return dict(json.load(response))


def get(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=30) as response:
        return dict(json.load(response))


class Setup:
    """A Better Auth, the service that trusts it, and alice."""

    def __init__(self, issuer: BetterAuth, server: Server) -> None:
        self.issuer, self.server = issuer, server
        self.alice, self.session, _ = issuer.sign_up("alice")

    @property
    def url(self) -> str:
        return mcp_url(self.server.port)

    @property
    def endpoint(self) -> str:
        return f"{self.issuer.origin}/api/auth"

    def tokens(self, scopes: str, **resource: str) -> dict[str, Any]:
        """Return what an agent gets that alice grants these scopes, for the resource that it asks for."""
        client = {"client_id": self.register(scopes)["client_id"], "redirect_uri": REDIRECT, **resource}
        challenge = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
        asked = {"response_type": "code", "scope": scopes, "state": "s", "code_challenge": challenge}
        query = urlencode({**client, **asked, "code_challenge_method": "S256"})
        sent_to = self.issuer.approve(f"{self.endpoint}/oauth2/authorize?{query}", self.session)
        code = parse_qs(urlsplit(sent_to).query)["code"][0]
        return self.exchange(grant_type="authorization_code", code=code, code_verifier=VERIFIER, **client)

    def register(self, scopes: str) -> dict[str, Any]:
        """Return the registration of a new agent (RFC 7591)."""
        body = {"redirect_uris": [REDIRECT], "token_endpoint_auth_method": "none", "scope": scopes}
        return post(f"{self.endpoint}/oauth2/register", json.dumps(body), **{"Content-Type": "application/json"})

    def register_machine(self) -> dict[str, Any]:
        """Return the registration of a client without a user."""
        return post(f"{self.issuer.origin}/machine", "", Authorization=f"Bearer {self.session}")

    def exchange(self, **form: str) -> dict[str, Any]:
        """Return the response of the token endpoint."""
        return post(f"{self.endpoint}/oauth2/token", urlencode(form))

    def call(self, token: str, tool: str = "list_tasks", **arguments: Any) -> tuple[int, Any, str]:
        """Call a tool; return the status, the body and the WWW-Authenticate header."""
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
        headers = {"Content-Type": "application/json", "MCP-Protocol-Version": "2025-11-25"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        with closing(http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)) as connection:
            connection.request("POST", "/mcp", json.dumps(message), headers)
            response = connection.getresponse()
            return response.status, json.load(response), response.headers["WWW-Authenticate"] or ""

    def api(self, token: str, method: str = "GET", path: str = "/api/tasks") -> tuple[int, Any]:
        return self.server.request(method, path, Authorization=f"Bearer {token}")


@pytest.fixture(scope="module")
def setup(migrated_database: Callable[[str], str]) -> Iterator[Setup]:
    port, database = free_port(), migrated_database("oauth")
    with (
        better_auth(resource=mcp_url(port)) as issuer,
        mcp_service(port, DATABASE_URL=database, BETTER_AUTH_URL=issuer.origin) as server,
    ):
        yield Setup(issuer, server)


def challenge_of(header: str) -> dict[str, str]:
    """Return the parameters of a WWW-Authenticate header."""
    scheme, _, rest = header.partition(" ")
    assert scheme == "Bearer"
    pairs = (part.partition("=") for part in rest.split(", "))
    return {name: value.strip('"') for name, _, value in pairs}


def assert_refused(found: tuple[int, Any, str], setup: Setup, code: str = "TOKEN_INVALID") -> None:
    status, body, header = found
    assert (status, body["error_code"]) == (401, code)
    assert challenge_of(header) == {
        **({"error": "invalid_token"} if code == "TOKEN_INVALID" else {}),
        "resource_metadata": setup.url.replace("/mcp", "/.well-known/oauth-protected-resource/mcp"),
        "scope": BOTH,
    }


@pytest.fixture(params=KINDS.values(), ids=list(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


def let_in(program: RunningClient, answer: Any, setup: Setup, asked: str, granted: str | None = None) -> Any:
    """Grant what the agent asks for, or less; return its next answer."""
    query = parse_qs(urlsplit(answer["authorize"]).query)
    assert (query["resource"], query["code_challenge_method"]) == ([setup.url], ["S256"])
    assert set(asked.split()) <= set(query["scope"][0].split())
    return program.ask(callback=setup.issuer.approve(answer["authorize"], setup.session, granted))


def claims_of(token: str) -> dict[str, Any]:
    return dict(jwt.decode(token, options={"verify_signature": False}))


def test_a_401_leads_to_the_authorization_server(setup: Setup) -> None:
    found = setup.call("")
    assert_refused(found, setup, "TOKEN_MISSING")
    resource = get(challenge_of(found[2])["resource_metadata"])
    assert resource == {
        "resource": setup.url,
        "authorization_servers": [setup.endpoint],
        "scopes_supported": [READ, WRITE],
        "bearer_methods_supported": ["header"],
        "resource_name": "Tasks",
    }
    server = get(f"{resource['authorization_servers'][0]}/.well-known/openid-configuration")
    assert server["issuer"] == setup.endpoint
    assert set(resource["scopes_supported"]) < set(server["scopes_supported"])


def test_an_agent_registers_and_manages_the_tasks_of_the_user_who_let_it_in(setup: Setup, kind: Kind) -> None:
    with running_client(kind, setup.url) as program:
        connected = let_in(program, program.answer(), setup, BOTH)
        assert connected["connected"] == kind.version
        task = program.call("add_task", title="By an agent")["structuredContent"]
    claims = claims_of(connected["token"])
    assert (claims["sub"], claims["aud"], claims["iss"]) == (setup.alice, setup.url, setup.endpoint)
    own = setup.issuer.token(setup.session)
    assert setup.api(own, path=f"/api/tasks/{task['id']}")[1]["user_id"] == setup.alice


def test_an_agent_asks_for_more_when_its_scope_does_not_suffice(setup: Setup, kind: Kind) -> None:
    with running_client(kind, setup.url) as program:
        let_in(program, program.answer(), setup, BOTH, granted=READ)
        assert program.call("list_tasks")["isError"] is False
        asked = program.ask(tool="add_task", arguments={"title": "After step-up"})
        assert let_in(program, asked, setup, WRITE)["result"]["isError"] is False
        assert program.call("list_tasks")["isError"] is False


def test_a_scope_allows_its_tools_only(setup: Setup) -> None:
    reader = setup.tokens(READ, resource=setup.url)["access_token"]
    assert setup.call(reader)[0] == 200
    for tool in ("add_task", "update_task", "complete_task", "delete_task"):
        status, body, header = setup.call(reader, tool)
        assert (status, body["error_code"]) == (403, "SCOPE_MISSING")
        challenge = challenge_of(header)
        assert (challenge["error"], challenge["scope"]) == ("insufficient_scope", WRITE)
        assert get(challenge["resource_metadata"])["resource"] == setup.url
    writer = setup.tokens(WRITE, resource=setup.url)["access_token"]
    assert setup.call(writer)[1]["result"]["isError"] is False
    assert setup.call(writer, "add_task", title="Written")[1]["result"]["isError"] is False


def test_an_agents_token_lives_for_15_minutes_and_is_renewed(setup: Setup) -> None:
    first = setup.tokens(f"{READ} offline_access", resource=setup.url)
    assert first["expires_in"] == 900
    kept = {"refresh_token": first["refresh_token"], "client_id": claims_of(first["access_token"])["client_id"]}
    second = setup.exchange(grant_type="refresh_token", resource=setup.url, **kept)
    assert setup.call(second["access_token"])[0] == 200


@pytest.mark.parametrize("scopes", [READ, BOTH, f"openid {BOTH}"])
def test_an_agents_token_is_refused_by_the_api_before_and_after_it_was_used(setup: Setup, scopes: str) -> None:
    agents = setup.tokens(scopes, resource=setup.url)["access_token"]
    for _ in range(2):
        for method, path in [("GET", "/api/tasks"), ("POST", "/api/tasks"), ("DELETE", "/api/tasks")]:
            status, body = setup.api(agents, method, path)
            assert (status, body["error_code"]) == (401, "TOKEN_INVALID")
        assert setup.call(agents)[0] == 200


def test_a_users_own_token_works_at_both(setup: Setup) -> None:
    own = setup.issuer.token(setup.session)
    for _ in range(2):
        assert setup.call(own, "add_task", title="By alice")[1]["result"]["isError"] is False
        assert setup.api(own)[0] == 200


def test_an_id_token_is_refused(setup: Setup) -> None:
    tokens = setup.tokens(f"openid {BOTH}", resource=setup.url)
    assert claims_of(tokens["id_token"])["sub"] == setup.alice
    assert_refused(setup.call(tokens["id_token"]), setup)
    assert setup.url in claims_of(tokens["access_token"])["aud"][:1]  # with openid it is a list
    assert setup.call(tokens["access_token"])[0] == 200


def test_a_token_that_was_asked_for_without_a_resource_is_refused(setup: Setup) -> None:
    opaque = setup.tokens(BOTH)["access_token"]
    assert "." not in opaque
    assert_refused(setup.call(opaque), setup)


def test_a_token_of_an_agent_without_a_user_is_refused(setup: Setup) -> None:
    registered = setup.register_machine()
    secret = {name: registered[name] for name in ("client_id", "client_secret")}
    token = setup.exchange(grant_type="client_credentials", scope=BOTH, resource=setup.url, **secret)["access_token"]
    claims = claims_of(token)
    assert (claims["aud"], claims["iss"], claims["scope"]) == (setup.url, setup.endpoint, BOTH)
    assert_refused(setup.call(token), setup)
    assert setup.api(token)[0] == 401
