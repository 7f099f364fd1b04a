"""gunicorn's worker with polling threads: all kinds of connections, few threads, an orderly stop."""

import json
import os
import re
import select
import selectors
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from gunicorn.config import Config

from tests.support.clock import Clock
from tests.support.issuers import write_certificate
from tests.support.programs import ROOT, Server, environment, production_environment, running, serving
from tests.support.threads import wait_until
from tests.support.tokens import token
from todo_api.serving import worker as worker_module
from todo_api.serving.connection import FIRST_REQUEST_TIMEOUT, LAST_REQUEST_TIMEOUT, REQUEST_TIMEOUT, Connection

pytestmark = pytest.mark.skipif(
    not hasattr(select, "epoll"),
    reason="run these tests on Linux: only there this worker serves, as it needs epoll",
)

LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
ALIVE = b'{"status": "ok"}'
Start = Callable[..., Server]


@contextmanager
def started(url: str, *options: str) -> Iterator[Server]:
    """Run gunicorn with one worker of two threads and further options."""
    with serving(production_environment(url, WEB_CONCURRENCY="1", WEB_THREADS="2"), *options) as server:
        yield server


@pytest.fixture
def start(databases: dict[str, str]) -> Iterator[Start]:
    """Start a server for one test, which counts its descriptors, stops it or sets options."""
    with ExitStack() as stack:
        yield lambda *options: stack.enter_context(started(databases["postgresql"], *options))


@pytest.fixture(scope="module")
def server(databases: dict[str, str]) -> Iterator[Server]:
    """A server for all other tests. Each test leaves both threads free."""
    with started(databases["postgresql"]) as server:
        yield server


@contextmanager
def connected(server: Server) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        yield client


def read_responses(client: socket.socket, number: int = 1, holding: bytes = ALIVE) -> bytes:
    """Read until these bytes have come `number` times or the server closes; return what was read."""
    received = b""
    while received.count(holding) < number and (part := client.recv(65536)):
        received += part
    return received


def closed(client: socket.socket) -> bool:
    return client.recv(65536) == b""


def test_a_connection_serves_request_after_request(server: Server) -> None:
    with connected(server) as client:
        for _ in range(50):
            client.sendall(LIVE)
            assert read_responses(client).startswith(b"HTTP/1.1 200 OK\r\n")


def test_pipelined_requests_get_their_responses_in_order(server: Server) -> None:
    with connected(server) as client:
        client.sendall(LIVE * 5 + LIVE.replace(b"live", b"none"))
        received = read_responses(client, holding=b"NOT_FOUND")
        assert received.count(b"HTTP/1.1 200 OK\r\n") == 5
        assert received.rindex(ALIVE) < received.index(b"HTTP/1.1 404 ")


@pytest.mark.parametrize("rest", [b"zz\r\n", b"0\r\nno trailer\r\n\r\n", b"5\r\nabcdefgh"])
def test_a_body_that_breaks_off_after_its_response_gets_no_second_one(server: Server, rest: bytes) -> None:
    """A client would take a second one for the response to its next request."""
    with connected(server) as client:
        client.sendall(LIVE.replace(b"Host: x", b"Host: x\r\nTransfer-Encoding: chunked") + b"1\r\n \r\n" + rest + LIVE)
        received = b"".join(iter(lambda: client.recv(65536), b""))
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert received.count(b"HTTP/1.1 ") == 1
    assert received.endswith(ALIVE)


@pytest.mark.parametrize(
    ("clients", "most", "pauses_taken", "expected"),
    [(4, 9, 1, "apapapap"), (5, 9, 2.5, "apaapaap"), (5, 9, 10, "apaaaa"), (4, 3, 10, "apaa"), (2, 9, 1e9, "ap")],
)
def test_a_worker_leaves_the_next_client_to_another(
    monkeypatch: pytest.MonkeyPatch, clients: int, most: int, pauses_taken: float, expected: str
) -> None:
    """It pauses after each: if it took a whole burst, the others would be idle. It makes up for longer pauses."""
    clock, done = Clock(), ""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        for _ in range(clients):
            stack.enter_context(socket.create_connection(listener.getsockname()))
        listener.setblocking(False)
        worker: Any = worker_module.PollingWorker(1, os.getpid(), [listener], None, 30, Config(), Mock())
        worker.PIPE, worker.connections, worker.most_connections = os.pipe(), set(), most
        worker.epoll, worker.waiting = stack.enter_context(select.epoll()), {}
        watch = worker._watch

        def accepted(connection: Connection, add: Any) -> None:
            nonlocal done
            done += "a"
            watch(connection, add)
            if done.count("a") == expected.count("a"):
                os.write(worker.PIPE[1], b".")  # as a signal does

        def pause(seconds: float) -> None:
            nonlocal done
            assert seconds == worker_module.ACCEPT_PAUSE
            done += "p"
            clock.ahead += seconds * pauses_taken * 1.01

        monkeypatch.setattr(worker, "_watch", accepted)
        monkeypatch.setattr(clock, "sleep", pause)
        monkeypatch.setattr(worker_module, "time", clock)
        worker._accept_clients(clock.monotonic() + 30)
        for connection in worker.connections:
            connection.close()
        worker.tmp.close()
        for end in worker.PIPE:
            os.close(end)
    assert done == expected


def test_workers_share_clients_that_connect_at_once(databases: dict[str, str]) -> None:
    """If one worker accepted all of them, the other would be idle."""
    env = production_environment(databases["postgresql"], WEB_CONCURRENCY="2", WEB_THREADS="4")
    with serving(env) as server, ExitStack() as stack:
        server.wait_for_workers(2)
        workers = server.workers
        time.sleep(0.5)
        smaller_shares: list[int] = []
        # On a busy machine one worker may run alone for some bursts.
        while len(smaller_shares) < 20 and sum(share >= 6 for share in smaller_shares) < 6:
            before = [sockets_of(worker) for worker in workers]
            clients = [stack.enter_context(socket.socket()) for _ in range(32)]
            for client in clients:
                client.setblocking(False)
                client.connect_ex(("127.0.0.1", server.port))
            for client in clients:
                client.settimeout(20)
                client.sendall(LIVE)
                assert ALIVE in read_responses(client)
            shares = [sockets_of(worker) - number for worker, number in zip(workers, before, strict=True)]
            smaller_shares.append(min(shares))
            if min(shares) < 6:
                time.sleep(0.25)
    assert sum(share >= 6 for share in smaller_shares) == 6, smaller_shares


def test_clients_that_connect_while_all_threads_are_busy_are_served_soon(start: Start) -> None:
    """Within 5000 requests of 100 others, who send without a pause."""
    server = start("--threads", "4")
    answered = 0
    unanswered: set[socket.socket] = set()
    with ExitStack() as stack, selectors.DefaultSelector() as selector:

        def connect_clients() -> None:
            for _ in range(100):
                client = stack.enter_context(connected(server))
                client.sendall(LIVE)
                selector.register(client, selectors.EVENT_READ)
                unanswered.add(client)

        def serve_ready_clients() -> None:
            nonlocal answered
            for key, _ in selector.select(20):
                client = key.fileobj
                assert isinstance(client, socket.socket)
                assert ALIVE in read_responses(client)
                client.sendall(LIVE)
                answered += 1
                unanswered.discard(client)

        connect_clients()
        while unanswered:
            serve_ready_clients()
        answered = 0
        connect_clients()
        while unanswered:
            serve_ready_clients()
    assert answered < 5000


def sockets_of(process: int) -> int:
    return sum(str(file.readlink()).startswith("socket:") for file in Path(f"/proc/{process}/fd").iterdir())


def test_idle_connections_occupy_no_thread(server: Server) -> None:
    with ExitStack() as stack:
        idle = [stack.enter_context(connected(server)) for _ in range(300)]
        assert server.request("GET", "/health/live") == (200, {"status": "ok"})
        for client in idle[::30]:
            client.sendall(LIVE)
            assert ALIVE in read_responses(client)


def test_a_slow_client_delays_no_other(server: Server) -> None:
    with connected(server) as slow:
        slow.sendall(LIVE[:20])
        for _ in range(10):
            assert server.request("GET", "/health/live")[0] == 200
        slow.sendall(LIVE[20:])
        assert ALIVE in read_responses(slow)


HEAD = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"
HALF_REQUESTS = {
    "nothing but a letter": b"G",
    "a head": HEAD + b"X-Header: ",
    "a body": HEAD + b"Content-Length: 60\r\n\r\n{",
    "chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\nff\r\n{",
    "a body too large": HEAD + b"Content-Length: 600000\r\n\r\n{",
}


@pytest.mark.parametrize("kind", HALF_REQUESTS)
def test_half_requests_occupy_no_thread(server: Server, kind: str) -> None:
    server.request("GET", "/health/live")
    with ExitStack() as stack:
        for _ in range(24):
            stack.enter_context(connected(server)).sendall(HALF_REQUESTS[kind])
        for _ in range(5):
            with connected(server) as other:
                other.settimeout(10)
                other.sendall(LIVE)
                assert ALIVE in read_responses(other)


def trickle(clients: list[socket.socket], seconds: float) -> dict[socket.socket, tuple[float, bytes]]:
    """Send a byte a second to each until it closes; return after how long it did, and what it sent."""
    began, received = time.monotonic(), dict.fromkeys(clients, b"")
    ended: dict[socket.socket, tuple[float, bytes]] = {}
    while len(ended) < len(clients) and time.monotonic() - began < seconds:
        for client in clients:
            if client not in ended and select.select([client], [], [], 0)[0]:
                part = client.recv(65536)
                received[client] += part
                if not part:
                    ended[client] = time.monotonic() - began, received[client]
            elif client not in ended:
                client.sendall(b"0")
        time.sleep(1)
    return ended


@pytest.mark.slow
def test_a_request_that_does_not_arrive_in_time_is_ended_however_slowly_it_comes(server: Server) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(connected(server)) for _ in range(4)]
        parts = [*HALF_REQUESTS.values()][:4]
        for client, part in zip(clients, parts, strict=True):
            client.sendall(LIVE)  # a connection that has been used is no different
            assert ALIVE in read_responses(client)
            client.sendall(part)
        assert REQUEST_TIMEOUT == 20
        ended = trickle(clients, 40)
        assert len(ended) == 4
        for seconds, received in ended.values():
            assert 19 < seconds < 26
            assert received.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
            head, _, body = received.partition(b"\r\n\r\n")
            assert json.loads(body)["error_code"] == "REQUEST_TIMEOUT"
            headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
            assert re.fullmatch("[0-9a-f]{32}", headers.pop("X-Request-ID"))
            assert headers == {
                "Connection": "close",
                "Content-Type": "application/json",
                "Content-Length": str(len(body)),
                "Cache-Control": "private, no-cache",
                "Vary": "Authorization, Origin",
                "X-Content-Type-Options": "nosniff",
            }


def test_a_body_in_many_parts_is_read_whole(server: Server) -> None:
    body = b'{"title": "In parts"}'
    head = f"POST /api/tasks HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token('parts')}\r\n".encode()
    head += b"Content-Type: application/json\r\n"
    length = head + b"Content-Length: %d\r\n\r\n" % len(body)
    chunks = head + b"Transfer-Encoding: chunked\r\n\r\n"
    with connected(server) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for whole in (length + body, chunks + b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"):
            for start in range(0, len(whole), 5):
                client.sendall(whole[start : start + 5])
            assert read_responses(client, holding=b"In parts").startswith(b"HTTP/1.1 201 ")


def test_a_client_that_waits_for_100_continue_gets_it_once(server: Server) -> None:
    head = b"POST /api/tasks HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    with connected(server) as client:
        client.sendall(head)
        assert client.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"12345" + head + b"12345")
        received = read_responses(client, 2, b"TOKEN_MISSING")
        assert received.count(b"HTTP/1.1 401 ") == 2
        assert b"100 Continue" not in received


@pytest.mark.slow
def test_a_client_that_does_not_read_is_disconnected(tmp_path: Path) -> None:
    (tmp_path / "large.py").write_text(
        "def app(environ, start_response):\n"
        "    length = 1 if environ['PATH_INFO'] == '/health/live' else 100_000_000\n"
        "    start_response('200 OK', [('Content-Length', str(length))])\n"
        "    return [b'y' * length]\n"
    )
    with (
        serving_application("large:app", "todo_api.serving.worker.PollingWorker", tmp_path) as server,
        ExitStack() as stack,
    ):
        for _ in range(2):  # there are two threads
            stack.enter_context(connected(server)).sendall(LIVE.replace(b"/health/live", b"/large"))
        began = time.monotonic()
        wait_until(lambda: is_served(server), 40)
        assert time.monotonic() - began > 10, "the clients hold both threads for a while"


def is_served(server: Server, expected: bytes = b"y") -> bool:
    with suppress(ConnectionError), connected(server) as client:  # reset if no thread is free for 5 seconds
        client.sendall(LIVE)
        return read_responses(client, holding=expected).endswith(expected)
    return False


def test_a_connection_over_the_limit_waits_for_another_to_end(start: Start) -> None:
    server = start("--worker-connections", "3")
    with ExitStack() as stack:
        clients = [stack.enter_context(connected(server)) for _ in range(3)]
        time.sleep(0.5)
        with connected(server) as late:
            late.sendall(LIVE)
            late.settimeout(1.5)
            with pytest.raises(TimeoutError):
                late.recv(1)
            clients[0].close()
            late.settimeout(20)
            assert ALIVE in read_responses(late)
    assert len(server.workers) == 1


def test_a_connection_that_idles_too_long_is_closed(start: Start) -> None:
    server = start("--keep-alive", "1")
    with connected(server) as client, connected(server) as silent:
        began = time.monotonic()
        client.sendall(LIVE)
        assert ALIVE in read_responses(client)
        assert closed(client)
        assert 0.5 < time.monotonic() - began < FIRST_REQUEST_TIMEOUT
        silent.sendall(LIVE)  # the first request may take longer
        assert ALIVE in read_responses(silent)


def test_clients_that_do_not_close_occupy_no_thread(server: Server) -> None:
    with ExitStack() as stack:
        lingering = [stack.enter_context(connected(server)) for _ in range(32)]
        began = time.monotonic()
        for client in lingering:
            client.sendall(LIVE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        for client in lingering:
            assert ALIVE in read_responses(client)
            assert closed(client)  # the server has closed; the client has not
        with connected(server) as other:
            other.sendall(LIVE)
            assert ALIVE in read_responses(other)
        assert time.monotonic() - began < 20  # two threads, held by 32 clients for two seconds each, would take longer


def test_a_client_that_keeps_sending_is_disconnected_after_a_while(server: Server) -> None:
    """Closed at once, the client could lose the response."""
    with connected(server) as client:
        began = time.monotonic()
        client.sendall(LIVE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert ALIVE in read_responses(client)

        def hung_up() -> bool:
            try:
                client.sendall(b"more")
            except OSError:
                return True
            return False

        wait_until(hung_up)
        assert time.monotonic() - began >= 2


@contextmanager
def serving_application(app: str, worker: str, folder: Path) -> Iterator[Server]:
    """Serve an application from a module in that folder, with one worker of two threads."""
    options = ["-c", "/dev/null", "--no-control-socket", "-k", worker, "--threads", "2", "--bind", "127.0.0.1:0"]
    paths = environment(PYTHONPATH=f"{ROOT}{os.pathsep}{folder}")
    with running(sys.executable, "-m", "gunicorn", app, *options, cwd=folder, env=paths) as program:
        yield Server(program)


def test_a_response_that_breaks_off_leaks_neither_thread_nor_connection(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Length', '20')])\n"
        "    yield b'x' * 10\n"
        "    if environ['PATH_INFO'] == '/broken':\n"
        "        raise RuntimeError('broken off')\n"
        "    if environ['PATH_INFO'] == '/lost':\n"
        "        raise FileNotFoundError('lost')\n"
        "    if environ['PATH_INFO'] == '/ended':\n"
        "        raise SystemExit\n"
        "    yield b'y' * 10\n"
    )
    with serving_application("broken:app", "todo_api.serving.worker.PollingWorker", tmp_path) as server:
        for path in [b"/broken", b"/lost", b"/ended"] * 3:  # there are two threads
            with connected(server) as client:
                client.sendall(LIVE.replace(b"/health/live", path))
                received = read_responses(client)
                assert b"xxx" not in received, "half a response"
                assert not received if path == b"/ended" else received.startswith(b"HTTP/1.1 500 ")
        server.program.wait_for("FileNotFoundError: lost")
        with connected(server) as client:
            client.sendall(LIVE)
            assert read_responses(client, holding=b"y").endswith(b"y" * 10)


def test_a_client_that_cannot_be_polled_does_not_affect_others(tmp_path: Path) -> None:
    (tmp_path / "unwatched.py").write_text(
        "import select\n"
        "from todo_api.serving.worker import PollingWorker as Worker\n"
        "class FullOnce:\n"
        "    def __init__(self, epoll=select.epoll):\n"
        "        self.epoll, self.clients = epoll(), 0\n"
        "        self.poll, self.modify = self.epoll.poll, self.epoll.modify\n"
        "    def register(self, *client):\n"
        "        self.clients += 1\n"
        "        if self.clients == 2:\n"
        "            raise OSError(28, 'No space left on device')\n"
        "        self.epoll.register(*client)\n"
        "select.epoll = FullOnce\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Length', '1')])\n"
        "    return [b'y']\n"
    )
    with serving_application("unwatched:app", "unwatched.Worker", tmp_path) as server:
        with connected(server) as first, connected(server), connected(server) as third:
            server.program.wait_for("Error accepting a client")
            server.program.wait_for("No space left on device")
            for client in (third, first):
                client.sendall(LIVE)
                assert read_responses(client, holding=b"y").endswith(b"y")
        assert server.program.output.count("Booting worker") == 1


def test_a_connection_that_is_not_readable_after_all_occupies_no_thread(tmp_path: Path) -> None:
    (tmp_path / "spurious.py").write_text(
        "import contextlib, select\n"
        "from todo_api.serving.worker import PollingWorker as Worker\n"
        "class Spurious:\n"
        "    def __init__(self, epoll=select.epoll):\n"
        "        self.epoll, self.new = epoll(), []\n"
        "        self.modify = self.epoll.modify\n"
        "    def register(self, descriptor, events):\n"
        "        self.epoll.register(descriptor, events)\n"
        "        self.new.append(descriptor)\n"
        "    def poll(self, maxevents):\n"
        "        with contextlib.suppress(IndexError):\n"
        "            return [(self.new.pop(0), select.EPOLLIN)]\n"
        "        return self.epoll.poll(0.05, maxevents)\n"
        "select.epoll = Spurious\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Length', '1')])\n"
        "    return [b'y']\n"
    )
    with serving_application("spurious:app", "spurious.Worker", tmp_path) as server, ExitStack() as stack:
        wait_until(lambda: is_served(server))
        clients = [stack.enter_context(connected(server)) for _ in range(3)]  # there are two threads
        time.sleep(0.5)
        for client in reversed(clients):
            client.sendall(LIVE)
            assert read_responses(client, holding=b"y").endswith(b"y")


def test_a_client_with_tls_is_served_if_gunicorn_has_a_certificate(start: Start, tmp_path: Path) -> None:
    write_certificate(tmp_path)
    certificate, key = str(tmp_path / "fullchain.pem"), str(tmp_path / "privkey.pem")
    server = start("--certfile", certificate, "--keyfile", key)
    trusted = ssl.create_default_context(cafile=certificate)
    with connected(server) as plain, trusted.wrap_socket(plain, server_hostname="127.0.0.1") as client:
        for _ in range(2):
            client.sendall(LIVE)
            assert read_responses(client).startswith(b"HTTP/1.1 200 OK\r\n")


def test_clients_that_disconnect_early_leave_no_descriptors(start: Start) -> None:
    server = start()
    server.request("GET", "/health/live")
    worker = worker_of(server)
    before = descriptors(worker)
    for sent in (b"", LIVE[:10], LIVE, b"POST /api/tasks HTTP/1.1\r\nContent-Length: 10\r\n\r\n{"):
        for _ in range(10):
            with connected(server) as client:
                client.sendall(sent)
    wait_until(lambda: descriptors(worker) <= before)
    assert server.request("GET", "/health/live")[0] == 200


def descriptors(process: int) -> int:
    return len(list(Path(f"/proc/{process}/fd").iterdir()))


def worker_of(server: Server) -> int:
    master = server.program.process.pid
    [worker] = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    return int(worker)


def test_a_worker_ends_after_the_requests_it_may_serve(start: Start) -> None:
    server = start("--max-requests", "3")
    with connected(server) as client:
        for kept in (True, True, False):
            client.sendall(LIVE)
            answered = read_responses(client)
            assert ALIVE in answered
            assert (b"Connection: keep-alive" in answered) is kept
        assert closed(client)
    server.program.wait_for("Restarting after --max-requests")
    wait_until(lambda: is_served(server, ALIVE))


def test_without_keep_alive_each_response_ends_its_connection_and_no_access_log_is_written(start: Start) -> None:
    server = start("--keep-alive", "0", "--access-logfile", "-")
    server.program.wait_for("No access log is written")
    with connected(server) as client:
        client.sendall(LIVE)
        assert b"Connection: close" in read_responses(client)
        assert closed(client)
    assert "GET /health/live HTTP" not in server.program.output


def test_a_stop_waits_for_begun_requests_and_closes_idle_connections(start: Start) -> None:
    server = start()
    body = b'{"title": "Begun before the end"}'
    head = (
        f"POST /api/tasks HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token()}\r\nContent-Type: application/json\r\n"
    )
    with connected(server) as begun, connected(server) as idle:
        begun.sendall(head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body[:5])
        idle.sendall(LIVE)
        assert ALIVE in read_responses(idle)
        told = time.monotonic()
        os.kill(server.program.process.pid, signal.SIGTERM)
        server.program.wait_for("Handling signal: term")
        assert closed(idle)
        assert time.monotonic() - told >= LAST_REQUEST_TIMEOUT  # a client may be sending a request already
        with pytest.raises(ConnectionRefusedError), connected(server):
            pass
        begun.sendall(body[5:])
        assert read_responses(begun, holding=b"Begun before the end").startswith(b"HTTP/1.1 201 ")
        assert closed(begun)
    assert server.program.process.wait(10) == 0


def test_a_request_on_an_idle_connection_gets_a_response_while_the_worker_stops(start: Start) -> None:
    server = start()
    with connected(server) as client:
        client.sendall(LIVE)
        assert ALIVE in read_responses(client)
        os.kill(server.program.process.pid, signal.SIGTERM)
        server.program.wait_for("Handling signal: term")
        answered = b""
        while b"Connection: close" not in answered:  # the master logs it before it signals the worker
            client.sendall(LIVE)
            answered = read_responses(client)
            assert ALIVE in answered
    assert server.program.process.wait(10) == 0
