"""Agents that call the MCP server through the test client."""

import json
from itertools import count
from typing import Any

from flask import Flask

from tests.support.tokens import token
from todo_api.mcp.protocol import CAPABILITIES, MODERN, VERSION

MCP_URL = "https://api.example.com/mcp"
MCP_ISSUER = "https://app.example.com/api/auth"
METADATA_URL = "https://api.example.com/.well-known/oauth-protected-resource/mcp"
SETTINGS = {"MCP_URL": MCP_URL, "MCP_ISSUER": MCP_ISSUER}
HINTS: dict[str, set[str]] = {
    "list_tasks": {"readOnlyHint", "idempotentHint"},
    "get_task": {"readOnlyHint", "idempotentHint"},
    "add_task": set(),
    "update_task": {"destructiveHint", "idempotentHint"},
    "complete_task": {"idempotentHint"},
    "delete_task": {"destructiveHint", "idempotentHint"},
}
META = {VERSION: MODERN, CAPABILITIES: {}}


def agents_token(user: str = "alice", scope: str = "tasks:read tasks:write", **claims: Any) -> str:
    """Return an access token as an authorization server issues it to an agent (RFC 9068)."""
    more = {"iss": MCP_ISSUER, "aud": MCP_URL, "client_id": "agent", "scope": scope, **claims}
    return token(user, headers={"typ": "at+jwt"}, **more)


class Agent:
    """An agent with a token; by default the user's own. Its messages are of the era before 2026-07-28."""

    def __init__(self, app: Flask, bearer: str | None = None) -> None:
        self.client = app.test_client()
        self.headers = {"Authorization": f"Bearer {token('alice') if bearer is None else bearer}"}
        self.ids = count()  # 0 is an id

    def send(self, message: Any, **headers: str) -> Any:
        """Post a message: bytes as they are, anything else as JSON."""
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        sent = self.headers | {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post("/mcp", data=body, content_type="application/json", headers=sent)

    def ask(self, method: str, params: Any = None, **headers: str) -> Any:
        message = {"jsonrpc": "2.0", "id": next(self.ids), "method": method, "params": params or {}}
        return self.send(message, **headers)

    def ask_modern(self, method: str, params: Any = None, **headers: str) -> Any:
        """Ask as clients do since 2026-07-28."""
        params = {"_meta": META, **(params or {})}
        named = {"Mcp_Name": params["name"]} if method == "tools/call" else {}
        sent = {"MCP_Protocol_Version": params["_meta"][VERSION], "Mcp_Method": method, **named, **headers}
        return self.ask(method, params, **sent)

    def result(self, name: str, **arguments: Any) -> Any:
        """Call a tool and return its result, or the error of the protocol."""
        response = self.ask("tools/call", {"name": name, "arguments": arguments})
        assert response.status_code == 200, response.text
        return response.json["result"]

    def use(self, name: str, **arguments: Any) -> Any:
        """Call a tool that must succeed, and return what it found."""
        result = self.result(name, **arguments)
        assert result["isError"] is False, result
        [block] = result["content"]
        assert json.loads(block["text"]) == result["structuredContent"]
        return result["structuredContent"]

    def fail(self, name: str, **arguments: Any) -> str:
        """Call a tool that must fail, and return the sentence."""
        result = self.result(name, **arguments)
        assert result["isError"] is True
        assert result.keys() == {"content", "isError"}
        [block] = result["content"]
        assert block["type"] == "text"
        return str(block["text"])
