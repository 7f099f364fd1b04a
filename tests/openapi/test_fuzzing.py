"""Fuzzing of the application and, with raw bytes, of gunicorn: no 500, no hang, no log line written by a client."""

import io
import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import MISSING, assert_error
from tests.mcp.agents import META, SETTINGS
from tests.support.generated import JSON
from tests.support.nginx import gunicorn_and_nginx
from tests.support.postgres import children
from tests.support.programs import Program
from tests.support.sockets import exchange, request, statuses
from tests.support.tokens import token
from todo_api.mcp.tools import TOOLS

FORGED = "forged-line"  # the start of a log line that a client tries to inject
BREAKS = ["\n", "\r", "\r\n", "\0", "\x1b[2J", "\x85", "\u2028", "\x0b", "\x7f", "%0d%0a", "\\n", "é", "😀", "{}", "%s"]
ROUTES = [
    "/api/tasks",
    MISSING,
    "/mcp",
    "/.well-known/oauth-protected-resource/mcp",
    "/health",
    "/health/live",
    "/health/ready",
    "/metrics",
    "/docs",
    "/openapi.json",
    "/",
    "*",
    "//",
    "http://x/api/tasks",
]
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get"]
PARAMETERS = ["is_completed", "priority", "tag", "due_from", "due_to", "q", "sort", "limit", "cursor", "include_total"]
NAMES = [
    "Authorization",
    "Content-Type",
    "Content-Length",
    "Transfer-Encoding",
    "Content-Encoding",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "MCP-Protocol-Version",
    "Mcp-Method",
    "Mcp-Name",
    "X-Request-ID",
    "Origin",
    "Access-Control-Request-Method",
    "Host",
    "Expect",
    "Connection",
    "Upgrade",
    "Accept-Encoding",
    "Cookie",
    "Range",
    "X-Forwarded-For",
    "Script-Name",
]


def mostly(usual: st.SearchStrategy[str], other: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Return usual text in nine of ten cases, so that most requests pass the first check."""
    return st.integers(0, 9).flatmap(lambda dice: usual if dice else other)


LATIN = st.text(st.characters(max_codepoint=255), max_size=40)
WORDS = LATIN | st.text(max_size=20) | st.sampled_from(BREAKS).map(lambda text: f"a{text}{FORGED} b")
PAIRS = st.tuples(
    st.sampled_from(PARAMETERS), st.just("="), WORDS | st.sampled_from(["true", "1", "-title", "low", "2026-02-08"])
)
QUERIES = st.lists(PAIRS.map("".join), max_size=3).map("&".join) | WORDS


ASKED = mostly(st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE"]), st.sampled_from(METHODS) | WORDS)
PATHS = mostly(
    st.sampled_from(["/api/tasks", MISSING, "/mcp"]),
    st.sampled_from(ROUTES) | st.tuples(st.sampled_from(ROUTES), WORDS).map("/".join),
)


def unsigned(words: tuple[str, str, str, str]) -> str:
    """Return an unsigned token; the log contains some of its claims."""
    kid, issuer, algorithm, sub = words
    parts = ({"alg": algorithm, "kid": kid}, {"iss": issuer, "sub": sub, "exp": 9e9})
    return ".".join([*(urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts), "AAAA"])


TOKENS = (
    st.tuples(WORDS, WORDS, WORDS | st.sampled_from(["HS256", "none"]), WORDS).map(unsigned)
    | WORDS.map(lambda sub: token(sub, iss="i", aud="a"))
    | st.just(token("fuzz", iss="i", aud="a"))
)
TAG = '"2026-02-08T09:30:00.123456Z"'
KNOWN = st.sampled_from(
    [
        "application/json",
        "0",
        "5",
        "chunked",
        "close",
        "100-continue",
        "*",
        "W/",
        "key",
        TAG,
        "2026-07-28",
        "tools/call",
    ]
)
VALUES = WORDS | TOKENS.map(lambda text: f"Bearer {text}") | KNOWN
CALLS = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0"), "method": st.sampled_from(["tools/call", "tools/list", "initialize"])},
    optional={
        "id": st.integers() | WORDS | JSON,
        "params": st.fixed_dictionaries(
            {},
            optional={
                "name": st.sampled_from([*TOOLS]) | JSON,
                "arguments": st.dictionaries(st.sampled_from(["task_id", "title", "limit"]) | WORDS, JSON) | JSON,
                "_meta": st.just(META) | JSON,
            },
        )
        | JSON,
    },
)
BODIES = (
    st.just(b'{"title": "x"}')
    | st.sampled_from([b'{"is_completed": true}', b"{}", b"[]"])
    | CALLS.map(json.dumps).map(str.encode)
    | st.binary(max_size=200)
)
HEADERS: st.SearchStrategy[list[tuple[str, str]]] = st.just([]) | st.lists(
    st.tuples(mostly(st.sampled_from(NAMES), WORDS), VALUES), max_size=4
)
EXAMPLES = settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))


def as_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def assert_no_injection(log: str) -> None:
    for line in log.split("\n"):
        assert line.replace("\t", "").isprintable(), ascii(line)
        assert not line.lstrip().startswith(FORGED)


# --- To the application ---


def environ_of(
    method: str, path: str, query: str, headers: list[tuple[str, str]], more: dict[str, str]
) -> dict[str, str]:
    """Return a WSGI environ, whose strings are Latin-1 (PEP 3333)."""
    environ = {f"HTTP_{re.sub('[^A-Z]', '_', name.upper())}": value for name, value in headers}
    environ |= {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query, **more}
    return {name: as_bytes(value).decode("latin-1") for name, value in environ.items()}


def test_the_application_responds_to_any_request(app: Flask, log: io.StringIO) -> None:
    seen: set[int] = set()

    @EXAMPLES
    @given(
        method=ASKED,
        path=PATHS,
        query=st.just("") | QUERIES,
        headers=HEADERS,
        body=BODIES,
        more=st.fixed_dictionaries(
            {
                "CONTENT_TYPE": mostly(st.just("application/json"), WORDS),
                "HTTP_AUTHORIZATION": mostly(st.just(f"Bearer {token('fuzz')}"), VALUES),
            },
        ),
    )
    def ask(
        method: str, path: str, query: str, headers: list[tuple[str, str]], body: bytes, more: dict[str, str]
    ) -> None:
        environ = environ_of(method, path, query, headers, more)
        response = app.test_client().open("/", data=body, environ_overrides=environ)
        seen.add(response.status_code)
        assert response.status_code < 500, log.getvalue()
        if response.status_code >= 400 and method != "HEAD":
            assert response.json
            if "jsonrpc" not in response.json:
                assert_error(response, response.status_code, response.json["error_code"])
        assert re.fullmatch("[A-Za-z0-9._-]{1,128}", response.headers["X-Request-ID"])
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        if path.startswith("/api/"):
            assert response.headers["Cache-Control"] == "private, no-cache"
            assert "Authorization" in response.headers["Vary"]
        assert all(name.isascii() and value.isprintable() for name, value in response.headers)
        assert_no_injection(log.getvalue())
        log.truncate(0)
        log.seek(0)

    ask()
    assert len(seen) >= 5  # statuses: requests passed the first check


# --- To gunicorn ---


@pytest.fixture(scope="module")
def service(
    migrated_database: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Program, int]]:
    folder, url = tmp_path_factory.mktemp("fuzzing"), migrated_database("fuzzing")
    with gunicorn_and_nginx(folder, url, LOG_LEVEL="DEBUG", **SETTINGS) as (program, ports):
        yield program, ports["gunicorn"]


ENDS = st.sampled_from([b"\r\n"] * 60 + [b"\n", b"\r", b"\r\n ", b"\0\r\n", b"\r\n\r\n"])


@st.composite
def raw_requests(draw: st.DrawFn) -> bytes:
    """Return a request with arbitrary parts, possibly cut off."""
    method, target = draw(ASKED), draw(PATHS) + draw(st.just("") | QUERIES.map("?{}".format))
    version = draw(mostly(st.just("HTTP/1.1"), st.sampled_from(["HTTP/1.0", "HTTP/2.0", "", "HTTP/1.1 x"])))
    body = draw(BODIES)
    headers = [("Host", "x"), *draw(HEADERS)]
    if draw(st.integers(0, 3)):
        headers += [("Content-Length", str(len(body))), ("Content-Type", "application/json")]
    if draw(st.integers(0, 3)):
        headers += [("Authorization", f"Bearer {token('fuzz', iss='i', aud='a')}")]
    lines = [f"{method} {target} {version}", *(f"{name}: {value}" for name, value in headers)]
    raw = b"".join(as_bytes(line) + draw(ENDS) for line in lines) + draw(ENDS) + body
    return raw if draw(st.integers(0, 9)) else raw[: draw(st.integers(0, len(raw)))]


def test_gunicorn_survives_any_bytes(service: tuple[Program, int]) -> None:
    program, port = service
    seen: set[int] = set()
    workers = children(program.process.pid)

    @EXAMPLES
    @given(sent=raw_requests() | st.binary(max_size=300))
    def send(sent: bytes) -> None:
        received = exchange(port, sent, half_close=True)
        for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", received):
            seen.add(int(status))
            assert int(status) < 500 or int(status) == 501, received

    send()
    assert len(seen) >= 5
    assert children(program.process.pid) == workers
    for _ in range(50):
        [status] = statuses(exchange(port, request("alice", "GET", "/api/tasks", more=b"Connection: close\r\n")))
        assert status == 200
    assert "Traceback" not in program.output
    assert "token refused" in program.output
    assert_no_injection(program.output)
