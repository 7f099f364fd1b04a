"""Request smuggling: requests hidden in others, sent to gunicorn directly and through nginx."""

import json
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest

from tests.support.nginx import MISSING, gunicorn_and_nginx
from tests.support.sockets import exchange, request, statuses
from tests.support.tokens import token

LAST = b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
Shape = Callable[[bytes], bytes]


@pytest.fixture(scope="module")
def ports(
    migrated_database: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, int]]:
    with gunicorn_and_nginx(tmp_path_factory.mktemp("smuggling"), migrated_database("smuggling")) as (program, ports):
        yield ports
        assert "Traceback" not in program.output, program.output


@pytest.fixture(params=["gunicorn", "nginx"])
def port(request: pytest.FixtureRequest, ports: dict[str, int]) -> int:
    if request.param not in ports:
        pytest.skip(MISSING)
    return ports[request.param]


def creation(user: str) -> bytes:
    return request(user, "POST", "/api/tasks", b'{"title": "Smuggled"}')


def tasks(port: int, user: str) -> list[str]:
    received = exchange(port, request(user, "GET", "/api/tasks", more=b"Connection: close\r\n"))
    assert statuses(received) == [200]
    return [task["title"] for task in json.loads(received.partition(b"\r\n\r\n")[2])]


def framed(head: bytes, body: bytes = b"") -> Shape:
    """Return a function that appends hidden bytes to a request with these headers and start of a body."""
    line = f"Host: x\r\nAuthorization: Bearer {token('alice', iss='i', aud='a')}\r\n".encode()
    return lambda hidden: b"POST /api/tasks HTTP/1.1\r\n" + line + head + b"\r\n" + body + hidden


def starting_with(line: bytes) -> Shape:
    return lambda hidden: line + hidden


CHUNKED = b"Transfer-Encoding: chunked\r\n"
REFUSED: dict[str, Shape] = {
    "a length, then chunks": framed(b"Content-Length: 5\r\n" + CHUNKED, b"0\r\n\r\n"),
    "chunks, then a length": framed(CHUNKED + b"Content-Length: 5\r\n", b"0\r\n\r\n"),
    "two lengths": framed(b"Content-Length: 0\r\nContent-Length: 5\r\n"),
    "one length twice": framed(b"Content-Length: 0\r\nContent-Length: 0\r\n"),
    "a length with a sign": framed(b"Content-Length: +0\r\n"),
    "a length of another script": framed(b"Content-Length: \xb2\r\n"),
    "a length of 5000 digits": framed(b"Content-Length: " + b"9" * 5000 + b"\r\n"),
    "a coding nobody knows": framed(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"),
    "chunked and identity": framed(b"Transfer-Encoding: chunked, identity\r\n", b"0\r\n\r\n"),
    "chunked twice": framed(CHUNKED + CHUNKED, b"0\r\n\r\n"),
    "chunked with a vertical tab": framed(b"Transfer-Encoding: \x0bchunked\r\n", b"0\r\n\r\n"),
    "chunked in quotes": framed(b'Transfer-Encoding: "chunked"\r\n', b"0\r\n\r\n"),
    "a folded header": framed(b"X-Header: a\r\n b\r\nContent-Length: 0\r\n"),
    "a folded first header": starting_with(b"GET /health/live HTTP/1.1\r\n X: y\r\nHost: x\r\n\r\n"),
    "a space before the colon": framed(b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n"),
    "no colon": framed(b"Content-Length 0\r\n"),
    "no name": framed(b": 0\r\n"),
    "a NUL in a value": framed(b"X-Header: a\0b\r\n"),
    "a carriage return in a value": framed(b"X-Header: a\rTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
    "two hosts": framed(b"Host: y\r\n"),
    "chunks of no number": framed(CHUNKED, b"zz\r\nabcde\r\n0\r\n\r\n"),
    "chunks with a sign": framed(CHUNKED, b"+5\r\nabcde\r\n0\r\n\r\n"),
    "chunks of an underscored number": framed(CHUNKED, b"0_5\r\nabcde\r\n0\r\n\r\n"),
    "chunks with nothing for a number": framed(CHUNKED, b"\r\nabcde\r\n0\r\n\r\n"),
    "chunks longer than they say": framed(CHUNKED, b"5\r\nabcdefg\r\n0\r\n\r\n"),
    "an extension with a carriage return": framed(CHUNKED, b"5;a\rb\r\nabcde\r\n0\r\n\r\n"),
    "chunks that old clients send": starting_with(
        b"POST /api/tasks HTTP/1.0\r\nHost: x\r\n" + CHUNKED + b"\r\n0\r\n\r\n"
    ),
    "HTTP/2 by its preface": starting_with(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"),
    "HTTP/9.9": starting_with(b"GET /health/live HTTP/9.9\r\nHost: x\r\n\r\n"),
    "a method in no letters": starting_with(b"G\x1bT /health/live HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a NUL in the address": starting_with(b"GET /health/\0live HTTP/1.1\r\nHost: x\r\n\r\n"),
    "TLS": starting_with(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n"),
}


UNIMPLEMENTED = {"a coding nobody knows", "chunked in quotes"}  # gunicorn sends 501 (RFC 9112, section 6.1)


@pytest.mark.parametrize("kind", REFUSED)
def test_ambiguous_requests_are_rejected_and_the_connection_closed(port: int, kind: str) -> None:
    victim = uuid4().hex
    received = exchange(port, REFUSED[kind](creation(victim)) + LAST)
    [status] = statuses(received)
    assert 400 <= status < 500 or (status == 501 and kind in UNIMPLEMENTED)
    assert tasks(port, victim) == []


def test_an_incomplete_chunk_swallows_what_follows(port: int) -> None:
    victim = uuid4().hex
    endless = framed(CHUNKED, b"10000000000000000\r\n")
    [status] = statuses(exchange(port, endless(creation(victim)) + LAST, half_close=True))
    assert status in (400, 413)
    assert tasks(port, victim) == []


def test_a_request_without_a_version_is_rejected_or_ends_its_connection(port: int, ports: dict[str, int]) -> None:
    """nginx still supports HTTP/0.9, which has no headers: no token in the request, no status in the response."""
    victim = uuid4().hex
    received = exchange(port, b"GET /health/live\r\n\r\n" + creation(victim) + LAST)
    if port == ports.get("nginx"):
        assert received == b'{"status": "ok"}'
    else:
        assert statuses(received) == [400]
    assert tasks(port, victim) == []


def body(head: bytes, wrap: Shape = lambda hidden: hidden, line: bytes = b"POST /api/tasks HTTP/1.1") -> Shape:
    """Return a function that builds a request with correct framing, whose body is the hidden request."""

    def shape(hidden: bytes) -> bytes:
        content = wrap(hidden)
        length = b"" if CHUNKED in head else b"Content-Length: %d\r\n" % len(content)
        return line + b"\r\nHost: x\r\nContent-Type: application/json\r\n" + head + length + b"\r\n" + content

    return shape


def chunks(hidden: bytes, extension: bytes = b"", trailers: bytes = b"") -> bytes:
    return b"%x%b\r\n%b\r\n0%b\r\n%b\r\n" % (len(hidden), extension, hidden, extension, trailers)


SIGNED = f"Authorization: Bearer {token('alice', iss='i', aud='a')}\r\n".encode()
UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
WHOLE: dict[str, Shape] = {
    "of a caller without a token": body(b""),
    "of a caller with one": body(SIGNED),
    "in chunks": body(SIGNED + CHUNKED, chunks),
    "in chunks with extensions": body(SIGNED + CHUNKED, lambda hidden: chunks(hidden, b';a=b;c="d"')),
    "in chunks with trailers": body(SIGNED + CHUNKED, lambda hidden: chunks(hidden, trailers=b"X-Trailer: a\r\n")),
    "of a request for nothing": body(b"", line=b"POST /nothing HTTP/1.1"),
    "of a request by its whole address": body(SIGNED, line=b"POST http://evil.example/api/tasks HTTP/1.1"),
    "of an upgrade to HTTP/2": body(SIGNED + UPGRADE),
    "of an upgrade to a web socket": body(SIGNED + b"Connection: Upgrade\r\nUpgrade: websocket\r\n"),
    "whose length is called the connection's": body(SIGNED + b"Connection: Content-Length\r\n"),
    "compressed, as it says": body(SIGNED + b"Content-Encoding: gzip\r\n"),
    "with an underscore": body(SIGNED + b"Transfer_Encoding: chunked\r\nContent_Length: 0\r\n"),
    "far beyond the limit": body(SIGNED, lambda hidden: b" " * 200_000 + hidden),
    "far beyond the limit, in chunks": body(SIGNED + CHUNKED, lambda hidden: chunks(b" " * 200_000 + hidden)),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_request_inside_a_body_is_not_executed(port: int, kind: str) -> None:
    """It gets one response. The request after it gets its own, or the connection is closed."""
    victim = uuid4().hex
    received = exchange(port, WHOLE[kind](creation(victim)) + LAST)
    first, *rest = statuses(received)
    assert 200 <= first < 500
    assert rest in ([], [200])
    assert not rest or received.endswith(b'{"status": "ok"}')
    assert tasks(port, victim) == []


def test_a_hidden_request_would_be_found(port: int) -> None:
    """The same bytes outside a body are executed."""
    victim = uuid4().hex
    assert statuses(exchange(port, body(b"")(b"") + creation(victim) + LAST)) == [401, 201, 200]
    assert tasks(port, victim) == ["Smuggled"]


@pytest.mark.parametrize("kind", ["two lengths", "chunks longer than they say"])
def test_the_next_client_gets_its_own_response(port: int, kind: str) -> None:
    """nginx reuses its connections to gunicorn: a rejected request may leave no bytes on them."""
    for number in range(5):
        user = f"next-{kind}-{number}"
        exchange(port, REFUSED[kind](b"GET /api/tasks HTTP/1.1\r\nHost: x\r\nX-Left-Open: "))
        exchange(port, request(user, "POST", "/api/tasks", b'{"title": "Own"}', b"Connection: close\r\n"))
        assert tasks(port, user)[-1:] == ["Own"]
