"""Cross-origin requests from browsers: the CORS protocol of the Fetch standard.

Flask-CORS would take 14 µs of every request; this takes almost nothing when there is no Origin header.
"""

from flask import Flask, Response, current_app, request

ANY_METHOD = "GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE, *"  # old browsers do not know the asterisk
ALLOWED_HEADERS = "Authorization, Content-Type, If-Match, If-None-Match, Idempotency-Key, X-Request-ID"
MCP_HEADERS = "MCP-Protocol-Version, Mcp-Method, Mcp-Name, Mcp-Session-Id, Last-Event-ID"  # what its clients send
EXPOSED_HEADERS = (
    "ETag, Link, Location, Retry-After, X-Next-Cursor, X-Total-Count, X-Request-ID, Idempotency-Replayed, "
    "WWW-Authenticate"
)


def answer_preflight() -> Response | None:
    """Answer the preflight of an unknown path: otherwise the page sees a CORS error in place of the 404."""
    if request.url_rule is None and is_preflight() and allowed_origin():
        return Response()
    return None


def add_headers(response: Response) -> Response:
    """Let pages of the configured origins read the response; credentials (cookies) are never allowed."""
    origin = allowed_origin()
    if origin is None:
        return response
    response.headers.setdefault("Access-Control-Allow-Origin", origin)
    if is_preflight():
        response.headers["Access-Control-Allow-Methods"] = response.headers.get("Allow", ANY_METHOD)
        more = f", {MCP_HEADERS}" if request.blueprint == "mcp" else ""
        response.headers["Access-Control-Allow-Headers"] = ALLOWED_HEADERS + more
        response.headers["Access-Control-Max-Age"] = "7200"  # seconds
    else:
        response.headers["Access-Control-Expose-Headers"] = EXPOSED_HEADERS
    return response


def allowed_origin() -> str | None:
    """Return the origin of the page that sent the request, if it may read the response."""
    origin = request.environ.get("HTTP_ORIGIN")
    return None if origin is None or current_app.config["CORS_ORIGINS"].isdisjoint({origin, "*"}) else origin


def is_preflight() -> bool:
    return request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers


def init_app(app: Flask) -> None:
    app.before_request(answer_preflight)
    app.after_request(add_headers)
