"""The routes of the MCP server, and the metadata that leads agents to their authorization server (RFC 9728)."""

import json
from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import Any, ParamSpec, TypeVar
from urllib.parse import urlsplit

from flask import Blueprint, Flask, Response, current_app, request

from todo_api.auth import TokenInvalid, TokenMissing, current_user_id, has_scope, jwt_or_agent_required
from todo_api.config import LOOPBACK
from todo_api.cors import allowed_origin
from todo_api.errors import ApiError, ErrorResponse, NotFound, log_error
from todo_api.mcp import tools
from todo_api.mcp.protocol import (
    INVALID_PARAMS,
    LEGACY,
    META,
    METHOD_NOT_FOUND,
    VERSIONS,
    Message,
    RpcError,
    read_message,
)
from todo_api.responses import JSONResponse
from todo_api.tasks import OwnedTasks, read_body
from todo_api.telemetry import TOOL

METADATA = "/.well-known/oauth-protected-resource"
CAPABILITIES: dict[str, Any] = {"tools": {}}
CACHEABLE = {"ttlMs": 300_000, "cacheScope": "public"}

P = ParamSpec("P")
R = TypeVar("R")

blueprint = Blueprint("mcp", __name__)


class OriginForbidden(ApiError):
    status_code, error_code, detail = 403, "ORIGIN_FORBIDDEN", "Pages of this origin may not call this route."


class ScopeMissing(ApiError):
    status_code, error_code, detail = 403, "SCOPE_MISSING", "The token does not allow this."
    headers = {"WWW-Authenticate": 'Bearer error="insufficient_scope"'}


class RpcResponse(JSONResponse):
    def __init__(self, document: dict[str, Any], status: int = 200) -> None:
        super().__init__(json.dumps(document), status)


def known_origin_required(view: Callable[P, R]) -> Callable[P, R]:
    """Refuse pages of other origins before anything else: a page must not reach a server on its user's machine."""

    @wraps(view)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        origin = request.headers.get("Origin")
        if origin is not None and allowed_origin() is None and origin != own_origin():
            raise OriginForbidden
        return view(*args, **kwargs)

    return checked


def own_origin() -> str | None:
    """Return the origin of the server's own pages; without MCP_URL only on loopback, as anybody can make a Host."""
    if url := current_app.config["MCP_URL"]:
        return origin_of(url)
    return origin_of(request.host_url) if LOOPBACK.fullmatch(urlsplit(request.host_url).hostname or "") else None


@blueprint.post("/mcp")
@known_origin_required
@jwt_or_agent_required
def post_message() -> Response:
    """Send a message of the Model Context Protocol."""
    message = read_message(read_body(), request.headers)
    if message.id is None:
        response = Response(status=HTTPStatus.ACCEPTED)
        del response.headers["Content-Type"]
        return response
    methods = MODERN_METHODS if message.is_modern else LEGACY_METHODS
    if message.method not in methods:
        raise message.error(METHOD_NOT_FOUND, "Unknown method.")
    return methods[message.method](message)


def initialize(message: Message) -> Response:
    requested = message.params.get("protocolVersion")
    version = requested if requested in LEGACY else LEGACY[0]
    return respond(message, {"protocolVersion": version, **server(), "serverInfo": server_info()})


def discover(message: Message) -> Response:
    return respond(message, {"supportedVersions": VERSIONS, **server(), **CACHEABLE})


def ping(message: Message) -> Response:
    return respond(message, {})


def list_tools(message: Message) -> Response:
    if message.params.get("cursor") is not None:
        raise message.error(INVALID_PARAMS, "Unknown cursor.")
    return respond(message, {"tools": tools.descriptions()["tools"]} | (CACHEABLE if message.is_modern else {}))


def call_tool(message: Message) -> Response:
    name, arguments = message.params.get("name"), message.params.get("arguments")
    tool = tools.TOOLS.get(name) if isinstance(name, str) else None
    if tool is None:
        raise message.error(INVALID_PARAMS, f"Unknown tool; known are: {', '.join(tools.TOOLS)}.")
    if not isinstance(arguments, dict | None):
        raise message.error(INVALID_PARAMS, "arguments must be an object.")
    request.environ[TOOL] = name
    check_scope(tool.scope)
    try:
        found = tools.call(tool, OwnedTasks(current_user_id()), arguments or {})
    except ApiError as error:  # the agent may mend it, so for the protocol it is a result
        log_error(error)
        response = respond(message, {"content": text_content(tools.sentence(error)), "isError": True})
        response.error = error
        return response
    content = text_content(json.dumps(found, ensure_ascii=False))
    return respond(message, {"content": content, "structuredContent": found, "isError": False})


LEGACY_METHODS = {"initialize": initialize, "ping": ping, "tools/list": list_tools, "tools/call": call_tool}
MODERN_METHODS = {"server/discover": discover, "tools/list": list_tools, "tools/call": call_tool}


def respond(message: Message, result: dict[str, Any]) -> RpcResponse:
    if message.is_modern:
        result |= {"resultType": "complete", "_meta": {f"{META}serverInfo": server_info()}}
    return RpcResponse({"jsonrpc": "2.0", "id": message.id, "result": result})


def text_content(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]


def server() -> dict[str, Any]:
    return {"capabilities": CAPABILITIES, "instructions": tools.descriptions()["instructions"]}


def server_info() -> dict[str, str]:
    return {"name": "todo-api", "title": "Tasks", "version": current_app.config["VERSION"]}


def check_scope(scope: str) -> None:
    """Raise ScopeMissing unless the token allows this; writing includes reading."""
    if not (has_scope(scope) or has_scope(tools.WRITE)):
        error = ScopeMissing()
        error.headers = {"WWW-Authenticate": challenge("insufficient_scope", scope)}
        raise error


@blueprint.get(f"{METADATA}/mcp")
@blueprint.get(METADATA)
def get_metadata() -> Response:
    """Get what an agent needs to ask for a token."""
    url, issuer = current_app.config["MCP_URL"], current_app.config["MCP_ISSUER"]
    if not (url and issuer):
        raise NotFound
    document = {
        "resource": url,
        "authorization_servers": [issuer],
        "scopes_supported": tools.SCOPES,
        "bearer_methods_supported": ["header"],
        "resource_name": "Tasks",
    }
    headers = {"Access-Control-Allow-Origin": "*", "Cache-Control": "public, max-age=300"}
    return JSONResponse(json.dumps(document), headers=headers)


@blueprint.errorhandler(RpcError)
def rpc_error(error: RpcError) -> Response:
    response = RpcResponse(error.document, error.status)
    response.error = error
    return response


@blueprint.errorhandler(TokenInvalid)
def token_invalid(error: TokenInvalid) -> Response:
    """Tell an agent where to get a token (RFC 9728, section 5.1)."""
    reason = None if isinstance(error, TokenMissing) else "invalid_token"
    error.headers = {"WWW-Authenticate": challenge(reason, " ".join(tools.SCOPES))}
    return ErrorResponse(error)


def challenge(error: str | None, scope: str) -> str:
    """Return the WWW-Authenticate header (RFC 6750, section 3)."""
    url = current_app.config["MCP_URL"]
    metadata = f"{origin_of(url)}{METADATA}/mcp" if url else None
    parameters = {"error": error, "resource_metadata": metadata, "scope": scope}
    return "Bearer " + ", ".join(f'{name}="{value}"' for name, value in parameters.items() if value)


def origin_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def init_app(app: Flask) -> None:
    """Serve /mcp in development, and elsewhere if it has an address."""
    if app.config["MCP_URL"] or app.config["ENVIRONMENT"] == "development":
        app.register_blueprint(blueprint)
