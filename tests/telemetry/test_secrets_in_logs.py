"""No log line of the application or of gunicorn contains what a client sent."""

import re
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest

from tests.support.nginx import gunicorn_and_nginx
from tests.support.programs import Program
from tests.support.sockets import exchange, request
from tests.support.tokens import token


@pytest.fixture(scope="module")
def service(
    migrated_database: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Program, int]]:
    with gunicorn_and_nginx(tmp_path_factory.mktemp("secrets"), migrated_database("secrets")) as (program, ports):
        yield program, ports["gunicorn"]


def head(line: str, *lines: str) -> bytes:
    return "\r\n".join([line, "Host: x", *lines, "", ""]).encode()


def signed(secret: str, method: str, path: str, body: str = "", more: str = "") -> bytes:
    """Return a request of Alice with the secret in place of each {}."""
    path, body, more = (text.replace("{}", secret) for text in (path, body, more))
    return request("alice", method, path, body.encode(), more.encode())


SENT: dict[str, Callable[[str], bytes]] = {
    "a title": lambda word: signed(word, "POST", "/api/tasks", '{"title": "{}"}'),
    "a title of a wrong type": lambda word: signed(word, "POST", "/api/tasks", '{"title": ["{}"]}'),
    "broken JSON": lambda word: signed(word, "POST", "/api/tasks", '{"title": "{}'),
    "a query": lambda word: signed(word, "GET", "/api/tasks?q={}"),
    "a cursor": lambda word: signed(word, "GET", "/api/tasks?cursor={}"),
    "a path": lambda word: signed(word, "GET", "/{}"),
    "an id": lambda word: signed(word, "GET", "/api/tasks/{}"),
    "a method": lambda word: head(f"{word.upper()} /api/tasks HTTP/1.1"),
    "a user": lambda word: request(word, "POST", "/api/tasks", b'{"title": "x"}'),
    "an idempotency key": lambda word: signed(word, "POST", "/api/tasks", '{"title": "x"}', "Idempotency-Key: {}\r\n"),
    "a bad idempotency key": lambda word: signed(word, "POST", "/api/tasks", "[]", "Idempotency-Key: {},\r\n"),
    "a cookie": lambda word: signed(word, "GET", "/api/tasks", more="Cookie: session={}\r\n"),
    "a bad request id": lambda word: signed(word, "GET", "/api/tasks", more="X-Request-ID: {} \u00e9\r\n"),
    "no token": lambda word: head("GET /api/tasks HTTP/1.1", f"Authorization: Bearer {word}"),
    "a bad signature": lambda word: head("GET /api/tasks HTTP/1.1", f"Authorization: Bearer {token(word)[:-4]}AAAA"),
    "an expired token": lambda word: head("GET /api/tasks HTTP/1.1", f"Authorization: Bearer {token(word, exp=1)}"),
    "two tokens": lambda word: head("GET /api/tasks HTTP/1.1", f"Authorization: Bearer {word}, Bearer {word}"),
    "a broken first line": lambda word: head(f"GET /api/tasks?q={word} HTTP/1.1 {word}"),
    "a first line that is none": lambda word: head(word),
    "an address with a letter that has no place there": lambda word: head(f"GET /api/tasks?q={word}\u00e9 HTTP/1.1"),
    "a header without a colon": lambda word: head("GET /api/tasks HTTP/1.1", f"Authorization Bearer {word}"),
    "a header with a NUL": lambda word: head("GET /api/tasks HTTP/1.1", f"Authorization: Bearer {word}\0"),
    "an odd expectation": lambda word: head("GET /api/tasks HTTP/1.1", f"Expect: {word}"),
    "an odd length": lambda word: head("POST /api/tasks HTTP/1.1", f"Content-Length: {word}"),
    "an odd chunk": lambda word: (
        head(
            "POST /api/tasks HTTP/1.1", f"Authorization: Bearer {token(iss='i', aud='a')}", "Transfer-Encoding: chunked"
        )
        + f"{word}\r\n".encode()
    ),
    "a body in place of a request": lambda word: b'{"title": "%b"}\r\n\r\n' % word.encode(),
}


@pytest.mark.parametrize("kind", SENT)
def test_nothing_that_a_client_sends_is_in_the_log(service: tuple[Program, int], kind: str) -> None:
    program, port = service
    word, fence = f"planted{uuid4().hex}", uuid4().hex
    sent = SENT[kind](word)
    exchange(port, sent, half_close=True)
    # Lines are written in order: once a later one is there, all earlier ones are.
    exchange(port, head("GET /api/tasks HTTP/1.1", f"X-Request-ID: {fence}"), half_close=True)
    program.wait_for(fence)
    tokens = re.findall(r"Bearer (\S+)", sent.decode("latin-1"))
    secrets = {word, word.upper(), *(part for text in tokens for part in text.split(".")[1:])}
    assert [line for line in list(program.lines) if any(secret in line for secret in secrets)] == []
