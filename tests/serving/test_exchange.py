"""What an application gets of a request, and what is sent of its response."""

from collections.abc import Iterable, Iterator
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from gunicorn.config import Config

from todo_api.serving.arrival import Parser
from todo_api.serving.exchange import MOST_COPIED, respond

GET = b"GET /a%20b?c=%20d HTTP/1.1\r\nHost: x\r\n\r\n"
Started = tuple[str, list[tuple[str, str]]]
OK: Started = ("200 OK", [("Content-Type", "text/plain")])


def answer(
    received: bytes,
    started: Started = OK,
    body: Iterable[bytes] = (b"yes",),
    *,
    keep_alive: bool = True,
    client: Any = "",
) -> tuple[list[bytes], dict[str, Any]]:
    """Return what to send for a request, and the environment that the application got."""
    parser, seen = Parser(Config(), client), dict[str, Any]()
    parser.received.add(received)

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        seen.update(environ)
        start_response(*started)
        return body

    return respond(application, next(parser), client, keep_alive=keep_alive), seen


def test_the_application_gets_the_request_as_wsgi_describes() -> None:
    request = b"POST" + GET[3:-2] + b"Content-Type: a/b\r\nContent-Length: 2\r\nX-One: 1\r\nX-One: 2\r\n\r\nhi"
    _, environ = answer(request, client=("192.0.2.1", 1234))
    assert environ["wsgi.input"].read() == b"hi"
    expected = {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/a b",
        "QUERY_STRING": "c=%20d",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "192.0.2.1",
        "CONTENT_TYPE": "a/b",
        "CONTENT_LENGTH": "2",
        "HTTP_HOST": "x",
        "HTTP_X_ONE": "1,2",
        "wsgi.url_scheme": "http",
    }
    assert {name: environ[name] for name in expected} == expected


def test_a_client_of_a_unix_socket_has_no_address() -> None:
    assert answer(GET)[1]["REMOTE_ADDR"] == ""


def test_a_response_is_sent_in_one_piece() -> None:
    [sent], _ = answer(GET)
    head, _, body = sent.partition(b"\r\n\r\n")
    status, server, date, *rest = head.decode().split("\r\n")
    assert (status, server, body) == ("HTTP/1.1 200 OK", "Server: gunicorn", b"yes")
    assert parsedate_to_datetime(date.removeprefix("Date: "))
    assert rest == ["Connection: keep-alive", "Content-Type: text/plain", "Content-Length: 3"]


def test_a_large_body_is_not_copied() -> None:
    body = b"y" * (MOST_COPIED + 1)
    (head, sent), _ = answer(GET, body=[body])
    assert head.endswith(b"\r\n\r\n")
    assert sent is body


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_a_status_without_a_body_gets_neither_body_nor_length(status: str) -> None:
    [sent], _ = answer(GET, (status, []))
    assert b"Content-Length" not in sent
    assert sent.endswith(b"\r\n\r\n")


def test_the_length_that_the_application_gives_is_kept() -> None:
    """It is that of the body which a GET would get."""
    [sent], _ = answer(b"HEAD" + GET[3:], ("200 OK", [("content-length", "5")]))
    assert sent.count(b"ontent-") == 1
    assert sent.endswith(b"content-length: 5\r\n\r\n")


def test_a_head_without_a_length_says_nothing_of_the_body_of_a_get() -> None:
    [sent], _ = answer(b"HEAD" + GET[3:], ("200 OK", []))
    assert b"Content-Length" not in sent
    assert sent.endswith(b"\r\n\r\n")


def test_a_client_of_http_1_0_gets_its_version_and_an_end() -> None:
    [sent], _ = answer(b"GET / HTTP/1.0\r\n\r\n", keep_alive=False)
    assert sent.startswith(b"HTTP/1.0 200 OK\r\n")
    assert b"\r\nConnection: close\r\n" in sent


def test_the_application_cannot_set_what_the_server_does() -> None:
    own = [("Connection", "close"), ("transfer-encoding", "chunked"), ("Date", "never"), ("SERVER", "x")]
    [sent], _ = answer(GET, ("200 OK", own))
    names = [line.partition(":")[0] for line in sent.decode().splitlines()[1:-2]]
    assert names == ["Server", "Date", "Connection", "Content-Length"]
    assert not {"never", "chunked", "x"} & set(sent.decode().split())


@pytest.mark.parametrize(
    "header",
    [("X", "a\r\nY: b"), ("X", "a\nb"), ("X", "a\rb"), ("X", "a\0b"), ("X: a\r\nY", "b"), ("X ", "a"), ("", "a")],
)
def test_a_header_that_is_not_valid_is_not_sent(header: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="header"):
        answer(GET, ("200 OK", [header]))


@pytest.mark.parametrize("status", ["200 OK\r\nX: y", "200 O\nK", "99 Low", "200", "OK"])
def test_a_status_that_is_not_valid_is_not_sent(status: str) -> None:
    with pytest.raises(ValueError, match="status"):
        answer(GET, (status, []))


def test_a_header_may_have_characters_of_latin_1() -> None:
    [sent], _ = answer(GET, ("200 OK", [("X", "\u00e9\t")]))
    assert b"\r\nX: \xe9\t\r\n" in sent


@pytest.mark.parametrize("length", ["2", "4", "+3", "x"])
def test_a_body_of_another_length_than_its_header_says_is_not_sent(length: str) -> None:
    with pytest.raises(ValueError, match="length"):
        answer(GET, ("200 OK", [("Content-Length", length)]))
    with pytest.raises(ValueError, match="length"):
        answer(GET, ("200 OK", [("Content-Length", length)]), [])


class Body:
    """A body that notes when it is closed, and fails if it is told so."""

    def __init__(self, error: Exception | None) -> None:
        self.error, self.closed = error, False

    def __iter__(self) -> Iterator[bytes]:
        yield b"half"
        if self.error:
            raise self.error

    def close(self) -> None:
        self.closed = True


def test_a_body_is_closed() -> None:
    body = Body(None)
    answer(GET, body=body)
    assert body.closed


def test_a_body_that_fails_is_closed_and_not_sent() -> None:
    body = Body(RuntimeError("half"))
    with pytest.raises(RuntimeError, match="half"):
        answer(GET, body=body)
    assert body.closed
