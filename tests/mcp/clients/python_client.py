"""The official Python client as a program: a line of JSON in, a line of JSON out (tests/support/mcp_clients.py)."""

import asyncio
import json
import sys
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
from mcp import Client, MCPError
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientMetadata

settings = json.loads(sys.argv[1])


def write(message: Any) -> None:
    print(json.dumps(message), flush=True)


async def read() -> Any:
    return json.loads(await asyncio.to_thread(sys.stdin.readline) or "null")


class Storage:
    """What the agent remembers of the authorization server."""

    def __init__(self) -> None:
        self.tokens: Any = None
        self.client: Any = None

    async def get_tokens(self) -> Any:
        return self.tokens

    async def set_tokens(self, tokens: Any) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> Any:
        return self.client

    async def set_client_info(self, client_info: Any) -> None:
        self.client = client_info


async def redirect(url: str) -> None:
    write({"authorize": url})


async def callback() -> Any:
    query = parse_qs(urlsplit((await read())["callback"]).query)
    return AuthorizationCodeResult(**{name: query[name][0] for name in ("code", "state", "iss")})


def http_client(storage: Storage) -> Any:
    """Return an HTTP client with the given token, or with one that the user grants."""
    if token := settings.get("token"):
        return httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"})
    metadata = OAuthClientMetadata(
        client_name="Python agent",
        redirect_uris=[settings["redirect"]],
        token_endpoint_auth_method="none",
    )
    return httpx2.AsyncClient(auth=OAuthClientProvider(settings["url"], metadata, storage, redirect, callback))


async def answer_to(client: Any, message: Any) -> Any:
    try:
        if "tool" in message:
            result = await client.call_tool(message["tool"], message["arguments"])
        else:
            result = await client.list_tools(cursor=message.get("cursor"))
    except MCPError as error:
        return {"error": error.code}
    return {"result": result.model_dump(mode="json", by_alias=True, exclude_unset=True)}


async def main() -> None:
    storage = Storage()
    async with http_client(storage) as http:
        transport = streamable_http_client(settings["url"], http_client=http)
        async with Client(transport, mode=settings["mode"]) as client:
            write({"connected": client.protocol_version, "token": storage.tokens and storage.tokens.access_token})
            while message := await read():
                write(await answer_to(client, message))


asyncio.run(main())
