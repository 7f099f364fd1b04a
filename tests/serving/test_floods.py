"""Floods: bodies that grow when parsed, endless headers and chunks, values that are slow to parse."""

import json
import select
import socket
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import pytest

from tests.conftest import MISSING
from tests.support.load import needs_proc, resident
from tests.support.nginx import MISSING as NO_NGINX
from tests.support.nginx import gunicorn_and_nginx
from tests.support.postgres import children
from tests.support.programs import Program
from tests.support.sockets import TIMEOUT, exchange, request, statuses

pytestmark = needs_proc

MEGABYTE = 1 << 20
MOST = 32 * MEGABYTE  # sent at most if the server does not stop it
# Of four threads; Python 3.14 or newer keeps using that memory after it has parsed nested lists.
STACKS = 32 * MEGABYTE if sys.version_info >= (3, 14) else 0
CHUNKED = b"POST /api/tasks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b"Connection: close\r\n"


class Service(NamedTuple):
    folder: Path
    program: Program
    ports: dict[str, int]

    @property
    def worker(self) -> int:
        [worker] = children(self.program.process.pid)
        return worker

    def memory(self) -> int:
        """Return the bytes held by the workers of gunicorn and nginx."""
        masters = [int(file.read_text()) for file in self.folder.glob("nginx.pid")]
        return sum(resident(worker) for worker in [self.worker, *(w for master in masters for w in children(master))])


@pytest.fixture(scope="module")
def service(migrated_database: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("floods")
    with gunicorn_and_nginx(folder, migrated_database("floods")) as (program, ports):
        service = Service(folder, program, ports)
        for _ in range(3):  # until its memory is stable
            assert statuses(exchange(ports["gunicorn"], request("alice", "GET", "/api/tasks", more=LAST))) == [200]
        worker = service.worker
        yield service
        assert service.worker == worker
        assert "Traceback" not in program.output, program.output


@pytest.fixture(params=["gunicorn", "nginx"])
def port(request: pytest.FixtureRequest, service: Service) -> int:
    if request.param not in service.ports:
        pytest.skip(NO_NGINX)
    return service.ports[request.param]


# --- Bodies that grow when parsed ---


def compressed(size: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    zeros = bytes(MEGABYTE)
    return b"".join(packer.compress(zeros) for _ in range(size // MEGABYTE)) + packer.flush()


def keys(number: int) -> bytes:
    return json.dumps({f"k{key}": 0 for key in range(number)}).encode()


BOMBS: dict[str, tuple[bytes, bytes]] = {
    "60 MB compressed": (compressed(60 * MEGABYTE), b"Content-Encoding: gzip\r\n"),
    "lists in lists": (b"[" * 65_000, b""),
    "whole lists in lists": (b'{"title":' + b"[" * 32_000 + b"]" * 32_000 + b"}", b""),
    "a number of 65,000 digits": (b'{"title":' + b"9" * 65_000 + b"}", b""),
    "5,000 unknown fields": (keys(5000), b""),
    "a title of escapes": (b'{"title":"' + b"\\u0041" * 10_000 + b'"}', b""),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_body_that_grows_when_parsed_is_rejected_and_uses_little_memory(service: Service, kind: str) -> None:
    port, (body, line) = service.ports["gunicorn"], BOMBS[kind]
    assert len(body) < 64 * 1024
    bomb = request(uuid4().hex, "POST", "/api/tasks", body, line + LAST)
    assert statuses(exchange(port, bomb)) == [400]
    before, began = service.memory(), time.monotonic()
    for _ in range(10):
        assert statuses(exchange(port, bomb)) == [400]
    assert time.monotonic() - began < 5
    assert service.memory() - before < 20 * MEGABYTE + STACKS


# --- Endless input ---


def flood(port: int, head: bytes, part: bytes) -> tuple[bytes, int]:
    """Send a beginning, then parts until the server closes; return its response and the number of bytes sent."""
    received, sent, parts = b"", len(head), part * (16_384 // len(part) + 1)
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as connection:
        with suppress(OSError):
            connection.sendall(head)
            while sent < MOST:
                if select.select([connection], [], [], 0)[0]:
                    if not (answer := connection.recv(65536)):
                        break
                    received += answer
                connection.sendall(parts)
                sent += len(parts)
            connection.shutdown(socket.SHUT_WR)
        with suppress(ConnectionError):
            while answer := connection.recv(65536):
                received += answer
    return received, sent


FLOODS: dict[str, tuple[bytes, bytes]] = {
    "an address": (b"GET /api/tasks?q=", b"x"),
    "lines before a request": (b"", b"\r\n"),
    "headers": (b"GET /api/tasks HTTP/1.1\r\nHost: x\r\n", b"X-Header: x\r\n"),
    "one header": (b"GET /api/tasks HTTP/1.1\r\nHost: x\r\nX-Header: ", b"x"),
    "the name of a header": (b"GET /api/tasks HTTP/1.1\r\nHost: x\r\n", b"X-"),
    "chunks": (CHUNKED, b"1\r\n \r\n"),
    "one chunk": (CHUNKED + b"ffffffff\r\n", b" "),
    "the number of a chunk": (CHUNKED, b"0"),
    "extensions of a chunk": (CHUNKED + b"1", b";a=b"),
    "trailers": (CHUNKED + b"0\r\n", b"X-Trailer: x\r\n"),
}


# nginx reads and discards these as long as they come; they do not reach the service.
READ_ON = {
    "lines before a request",
    "the number of a chunk",
    "extensions of a chunk",
    "trailers",
}


@pytest.mark.parametrize("kind", FLOODS)
def test_endless_input_is_rejected_and_uses_little_memory(service: Service, port: int, kind: str) -> None:
    before = service.memory()
    received, sent = flood(port, *FLOODS[kind])
    if port == service.ports["gunicorn"] or kind not in READ_ON:
        assert sent < MOST
    if received:
        [status] = statuses(received)
        assert 400 <= status < 500
    assert service.memory() - before < 20 * MEGABYTE
    assert statuses(exchange(port, request("alice", "GET", "/api/tasks", more=LAST))) == [200]


def test_too_many_headers_are_rejected(port: int) -> None:
    lines = b"".join(b"X-%d: x\r\n" % count for count in range(101))
    [status] = statuses(exchange(port, request("alice", "GET", "/api/tasks", more=lines + LAST)))
    assert status in (400, 431)


# --- Values that are slow to parse ---

READ_CLOSELY = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "Origin",
    "X-Request-ID",
)
LONG = 32_000  # about as long as a header may be
TIRING = (
    *((part * LONG)[:LONG] for part in ("a", ",", '"', '"a",', 'W/"', ". ", "a;", "a.b-", '\t"')),
    " " * LONG + "a",
    "a" + " " * (LONG - 10) + "a",
)


def quick_status(port: int, sent: bytes) -> int:
    """Return the status of a request that takes less than half a second in one of three tries."""
    seconds = []
    for _ in range(3):
        began = time.monotonic()
        [status] = statuses(exchange(port, sent))
        seconds.append(time.monotonic() - began)
    assert min(seconds) < 0.5
    return status


@pytest.mark.parametrize("name", READ_CLOSELY)
def test_no_header_is_slow_to_parse(service: Service, name: str) -> None:
    port = service.ports["gunicorn"]
    for value in TIRING:
        head = f"GET /api/tasks/{'0' * 8} HTTP/1.1\r\nHost: x\r\n" if name == "Authorization" else ""
        signed = request("alice", "PUT", MISSING, b"{}", LAST)
        sent = f"{head or signed.decode().partition('Content-Type')[0]}{name}: {value}\r\n{LAST.decode()}\r\n"
        assert 400 <= quick_status(port, sent.encode()) < 500


@pytest.mark.parametrize("parameter", ["q", "cursor", "sort", "limit", "unknown"])
def test_no_parameter_is_slow_to_parse(service: Service, parameter: str) -> None:
    for value in ("%25" * 1100, "a" * 3500, "+" * 3500, "9" * 3500, f"{parameter}=&" * 300, "%F0%9F" * 500):
        sent = request("alice", "GET", f"/api/tasks?{parameter}={value}", more=LAST)
        assert quick_status(service.ports["gunicorn"], sent) in (200, 400)
