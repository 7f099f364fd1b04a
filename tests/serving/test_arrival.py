"""Requests that arrive in parts: which are complete, and how the parser goes on."""

from collections.abc import Iterator
from contextlib import suppress

import pytest
from gunicorn.config import Config
from gunicorn.http.errors import LimitRequestHeaders, NoMoreData, ParseException

from todo_api.serving.arrival import MOST_BODY, MOST_CHUNKS, MOST_HEAD, Incomplete, Parser

HEAD = b"POST /api/tasks HTTP/1.1\r\nHost: x\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
WHOLE = {
    "no body": (HEAD + b"\r\n", b""),
    "no headers": (b"GET / HTTP/1.1\r\n\r\n", b""),
    "an empty line first": (b"\r\n" + HEAD + b"\r\n", b""),
    "a length": (HEAD + b"cOntent-Length:\t12 \r\n\r\nabcdefghijkl", b"abcdefghijkl"),
    "an empty body": (HEAD + b"Content-Length: 0\r\n\r\n", b""),
    "chunks": (CHUNKED + b"3\r\nabc\r\n0a\r\n0\r\n\r\n56789\r\n0\r\n\r\n", b"abc0\r\n\r\n56789"),
    "extensions": (CHUNKED + b'3;a=b\r\nabc\r\n00;c="0"\r\n\r\n', b"abc"),
    "trailers": (CHUNKED + b"3\r\nabc\r\n0\r\nX-A: b\r\nX-B: c\r\n\r\n", b"abc"),
}


@pytest.fixture
def parser() -> Parser:
    return Parser(Config(), ("127.0.0.1", 1))


def received(parser: Parser, parts: Iterator[bytes] | list[bytes]) -> bytes:
    """Feed the parser until the request is complete; return its body."""
    for part in parts:
        parser.received.add(part)
        try:
            return bytes(next(parser).body.read())
        except Incomplete:
            pass
    raise AssertionError("incomplete")


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_a_request_is_complete_with_its_last_byte(parser: Parser, kind: str, size: int) -> None:
    whole, body = WHOLE[kind]
    parts = [whole[start : start + size] for start in range(0, len(whole), size)]
    for _ in range(2):
        rest = iter(parts)
        assert received(parser, rest) == body
        assert next(rest, None) is None
        assert parser.finish_body()
        assert not parser.received.was_exhausted


def test_what_follows_a_request_is_the_next(parser: Parser) -> None:
    first, body = WHOLE["chunks"]
    assert received(parser, [first + WHOLE["a length"][0] + HEAD]) == body
    assert next(parser).body.read() == b"abcdefghijkl"
    with pytest.raises(Incomplete):
        next(parser)
    assert received(parser, [b"\r\n"]) == b""


@pytest.mark.parametrize(
    "sent",
    [
        b"no request\r\n",
        HEAD + b"a bare line feed\n",
        HEAD + b"Content-Length: +1\r\n\r\n",
        HEAD + b"Transfer-Encoding: gzip\r\n\r\n",
        CHUNKED + b"zz\r\n",
        CHUNKED + b"10;" + b"x" * 400,
        CHUNKED + b"5\r\nabcdefg\r\n",
        CHUNKED + b"0\r\nno trailer\r\n\r\n",
    ],
)
def test_a_malformed_request_is_rejected_before_its_end(parser: Parser, sent: bytes) -> None:
    with pytest.raises((ParseException, NoMoreData)):
        received(parser, [sent])


def test_an_endless_head_is_rejected(parser: Parser) -> None:
    with pytest.raises(LimitRequestHeaders):
        received(parser, [HEAD, *[b"X-Header: x\r\n" * 100] * (MOST_HEAD // 1000)])


@pytest.mark.parametrize(
    ("head", "part"),
    [
        (HEAD + b"Content-Length: %d\r\n\r\n" % (MOST_BODY + 1), b"x"),
        (CHUNKED + b"ffffffff\r\n", b"x" * 1000),
        (CHUNKED, b"3e8\r\n" + b"x" * 1000 + b"\r\n"),
        (CHUNKED, b"1\r\nx\r\n" * 100),
        (CHUNKED, b"0" * 1000),
    ],
)
def test_a_body_that_is_too_large_is_not_waited_for(parser: Parser, head: bytes, part: bytes) -> None:
    parser.received.add(head)
    sent = 0
    while sent <= MOST_CHUNKS:
        parser.received.add(part)
        sent += len(part)
        try:
            next(parser)
            break
        except Incomplete:
            pass
    assert sent <= MOST_CHUNKS + len(part)


@pytest.mark.parametrize("rest", [b"Content-Length: 10\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc"])
def test_a_connection_cannot_be_used_after_a_body_that_breaks_off(parser: Parser, rest: bytes) -> None:
    with suppress(NoMoreData):
        assert received(parser, [HEAD + rest, b""]) == b"abc"
    assert parser.received.was_exhausted
