"""One message of the Model Context Protocol: JSON-RPC 2.0, in the protocol's two eras.

Since 2026-07-28 each message is complete in itself, and repeats in headers what a proxy may want to know. Before, a
client says `initialize` first. This server remembers nothing of that, so both eras are without state.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

from werkzeug.datastructures import Headers

from todo_api.tasks import MalformedJSON, parse_json

MODERN = "2026-07-28"
LEGACY = ("2025-11-25", "2025-06-18", "2025-03-26")
VERSIONS = (MODERN, *LEGACY)
META = "io.modelcontextprotocol/"
VERSION, CAPABILITIES = f"{META}protocolVersion", f"{META}clientCapabilities"
ENCODED = "=?base64?", "?="  # around the value of a header

# JSON-RPC's codes, then those of MCP.
PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS = -32700, -32600, -32601, -32602
HEADER_MISMATCH, UNSUPPORTED_VERSION = -32020, -32022


class RpcError(Exception):
    """Ends a message with a JSON-RPC error, and its request with `status`."""

    refusal, foreign_task = None, False  # for the log

    def __init__(self, code: int, text: str, message_id: str | int | None = None, status: int = 400) -> None:
        super().__init__(text)
        self.code, self.message_id, self.status = code, message_id, status
        self.data: dict[str, Any] | None = None

    @property
    def error_code(self) -> str:
        """The code for the log."""
        return f"RPC{self.code}"

    @property
    def document(self) -> dict[str, Any]:
        """The JSON-RPC response. Without `id` if the message's could not be read."""
        identified = {} if self.message_id is None else {"id": self.message_id}
        error = {"code": self.code, "message": str(self)} | ({"data": self.data} if self.data else {})
        return {"jsonrpc": "2.0", **identified, "error": error}


class UnsupportedVersion(RpcError):
    def __init__(self, requested: str, message_id: str | int | None) -> None:
        super().__init__(UNSUPPORTED_VERSION, "Unsupported protocol version", message_id)
        self.data = {"supported": VERSIONS, "requested": requested}


class Message(NamedTuple):
    """A request, or without `id` a notification."""

    id: str | int | None
    method: str
    params: dict[str, Any]
    is_modern: bool = False

    def error(self, code: int, text: str) -> RpcError:
        """Return an error of the method or its parameters."""
        status = HTTPStatus.NOT_FOUND if code == METHOD_NOT_FOUND else HTTPStatus.BAD_REQUEST
        return RpcError(code, text, self.id, status if self.is_modern else HTTPStatus.OK)


def read_message(body: bytes, headers: Headers) -> Message:
    """Return the message in the body, after checking it and the headers that belong to it. Raises RpcError."""
    message = parse(body)
    version = headers.get("MCP-Protocol-Version")
    meta = message.params.get("_meta")
    meta = meta if isinstance(meta, dict) else {}
    if VERSION not in meta and version in (None, *LEGACY):
        return message
    message = message._replace(is_modern=True)
    if message.id is None:
        check_versions(meta.get(VERSION), version)
        return message
    check_version(message, meta.get(VERSION, version), version)
    check_request(message, meta, headers)
    return message


def parse(body: bytes) -> Message:
    """Return the message in the body. Raises RpcError."""
    try:
        found = parse_json(body)
    except MalformedJSON as error:
        raise RpcError(PARSE_ERROR, error.detail) from None
    if not isinstance(found, dict):
        raise RpcError(INVALID_REQUEST, "The body must be one JSON-RPC message.")
    message_id, method, params = found.get("id"), found.get("method"), found.get("params", {})
    if "id" in found and (not isinstance(message_id, str | int) or isinstance(message_id, bool)):
        raise RpcError(INVALID_REQUEST, "id must be a string or an integer.")
    if found.get("jsonrpc") != "2.0" or not isinstance(method, str) or not isinstance(params, dict):
        raise RpcError(INVALID_REQUEST, "This is no request or notification of JSON-RPC 2.0.", message_id)
    return Message(message_id, method, params)


def check_versions(*versions: Any) -> None:
    """Refuse a notification that names a version which this server does not know. Raises RpcError."""
    for version in versions:
        if isinstance(version, str) and version not in VERSIONS:
            raise UnsupportedVersion(version, None)


def check_version(message: Message, requested: Any, header: str | None) -> None:
    """Refuse a version that this server does not know, unless the header contradicts it. Raises RpcError."""
    if isinstance(requested, str) and requested != MODERN and header in (None, requested):
        raise UnsupportedVersion(requested, message.id)


def check_request(message: Message, meta: Mapping[str, Any], headers: Headers) -> None:
    """Check what each request of this era must have, and that its headers repeat it. Raises RpcError."""
    if not isinstance(meta.get(VERSION), str) or not isinstance(meta.get(CAPABILITIES), dict):
        raise message.error(INVALID_PARAMS, f"params._meta must have {VERSION} and {CAPABILITIES}.")
    pairs = [("MCP-Protocol-Version", meta[VERSION]), ("Mcp-Method", message.method)]
    if message.method == "tools/call" and isinstance(message.params.get("name"), str):
        pairs.append(("Mcp-Name", message.params["name"]))
    for name, value in pairs:
        found = headers.get(name)
        if (decode_header(found) if name == "Mcp-Name" else found) != value:
            raise message.error(HEADER_MISMATCH, f"The header {name} must be as in the body.")


def decode_header(value: str | None) -> str | None:
    """Return the value of a header that may be encoded as =?base64?...?=; None if it is missing or not valid."""
    before, after = ENCODED
    if value is None or not (value.startswith(before) and value.endswith(after)):
        return value
    encoded = value[len(before) : -len(after)]
    try:
        raw = b64decode(encoded, validate=True)
        return raw.decode() if b64encode(raw).decode() == encoded else None
    except ValueError:
        return None
