"""Faults of the server and its clients while the service is under load."""

import os
import signal
import socket
import struct
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from uuid import uuid4

from tests.faults.conftest import Start
from tests.faults.test_database import fill, small_disk
from tests.support.load import Load, Stack, under_load
from tests.support.programs import GUNICORN, ROOT, Server, running
from tests.support.sockets import many_descriptors
from tests.support.threads import wait_until
from tests.support.tokens import token

LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset
TITLE = '{"title": "Left alone"}'
MANY, FEWER = 9_900, 2_000  # idle connections; two workers take 10,000 in all


def wait_for_other_workers(stack: Stack, than: set[int]) -> None:
    wait_until(lambda: not than & set(stack.workers()), 40)
    stack.wait()


def test_a_killed_worker_is_replaced_and_no_write_is_lost(service: Start) -> None:
    with service() as stack, under_load(stack, "A worker killed (SIGKILL), three times") as load:
        with load.fault():
            for _ in range(3):
                killed = stack.workers()[0]
                os.kill(killed, signal.SIGKILL)
                wait_for_other_workers(stack, than={killed})
                time.sleep(0.3)
        assert load.cuts() > 0
        assert load.unavailable() == 0


def test_a_full_temporary_folder_affects_no_request(service: Start, tmp_path: Path) -> None:
    with small_disk(tmp_path / "full") as disk, service(TMPDIR=str(disk)) as stack:
        filler = disk / "todo-faults-filler"
        with under_load(stack, "The temporary folder is full, and a worker killed (SIGKILL)") as load:
            try:
                with load.fault():
                    fill(filler)
                    killed = stack.workers()[0]
                    os.kill(killed, signal.SIGKILL)
                    wait_for_other_workers(stack, than={killed})
                    time.sleep(1)
            finally:
                filler.unlink(missing_ok=True)
            assert load.unavailable() == 0


def test_all_requests_that_arrive_before_a_reload_get_their_response(service: Start) -> None:
    with service() as stack, under_load(stack, "Reloaded (SIGHUP), twice") as load:
        with load.fault():
            for _ in range(2):
                old = set(stack.workers())
                os.kill(stack.server.program.process.pid, signal.SIGHUP)
                wait_for_other_workers(stack, than=old)
        assert_only_unread_requests_were_cut(load)


def test_all_requests_that_arrive_before_a_stop_get_their_response(service: Start) -> None:
    with ExitStack() as programs, service() as stack, under_load(stack, "Stopped (SIGTERM) and started again") as load:
        first = stack.server.program.process
        with load.fault():
            first.terminate()
            assert first.wait(35) == 0
            stack.server = Server(programs.enter_context(running(*GUNICORN, cwd=ROOT, env=stack.environment)))
            stack.wait()
            load.port = stack.server.port
        assert_only_unread_requests_were_cut(load)


def assert_only_unread_requests_were_cut(load: Load) -> None:
    """Assert that no request was executed although its connection was cut."""
    assert load.applied_but_cut == 0
    assert load.unavailable() == 0


def test_idle_and_slow_clients_delay_nobody(service: Start) -> None:
    with many_descriptors() as most, service() as stack:
        number = MANY if most >= 2 * MANY else FEWER
        with (
            under_load(stack, f"{number} idle connections and three slow clients") as load,
            ExitStack() as clients,
        ):
            with load.fault():
                idle = [clients.enter_context(connected(stack)) for _ in range(number)]
                slow = [clients.enter_context(connected(stack)) for _ in range(3)]
                for byte in LIVE:
                    for client in slow:
                        client.sendall(bytes([byte]))
                    time.sleep(0.04)
            for client in idle[::100]:
                client.sendall(LIVE)
                assert_answered(client)
            for client in slow:
                assert_answered(client)
            assert load.failures() == []


def assert_answered(client: socket.socket) -> None:
    assert client.recv(100).startswith(b"HTTP/1.1 200 OK")
    client.close()  # a server that closes waits two seconds for the client to close


def connected(stack: Stack) -> socket.socket:
    return socket.create_connection(("127.0.0.1", stack.server.port), timeout=30)


def test_clients_that_disconnect_early_harm_nobody(service: Start) -> None:
    with service() as stack, under_load(stack, "500 clients that hang up in the middle") as load:
        left = f"left-{uuid4().hex}"
        keys = [uuid4().hex for _ in range(500)]
        with load.fault():
            for number, key in enumerate(keys):
                request = creation(left, key)
                with connected(stack) as client:
                    client.sendall(request[: len(request) * (number % 5) // 4])  # nothing, parts, all of it
                    if number % 2:
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        assert load.failures() == []
        headers = {"Authorization": f"Bearer {token(left)}"}
        for key in keys:
            create = partial(stack.server.request, "POST", "/api/tasks", TITLE, Idempotency_Key=key, **headers)
            deadline = time.monotonic() + 15
            while (answer := create())[0] == 429:  # what came before is still under way
                assert time.monotonic() < deadline
            status, task = answer
            assert (status, task["title"]) == (201, "Left alone")
        assert len(stack.server.request("GET", "/api/tasks", **headers)[1]) == len(keys)
        assert stack.query("SELECT count(*) FROM tasks WHERE user_id = %s", left) == [(len(keys),)]


def creation(user: str, key: str) -> bytes:
    head = (
        "POST /api/tasks HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {token(user)}",
        f"Idempotency-Key: {key}",
        "Content-Type: application/json",
        f"Content-Length: {len(TITLE)}",
    )
    return "\r\n".join([*head, "", TITLE]).encode()
