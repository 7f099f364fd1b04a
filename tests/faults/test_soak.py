"""The memory of a worker over 100,000 requests of all kinds."""

import json
import random
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any
from uuid import UUID

from tests.faults.conftest import SOAK, Start
from tests.support.load import Stack, resident
from tests.support.tokens import token
from todo_api.auth.tokens import CACHE_SIZE

STEPS, STEP = 10, 10_000
WARM = 2  # steps until every thread has allocated its memory; the cache of tokens is full before
CLIENTS = 8
MEGABYTE = 1 << 20
MOST_GROWTH = 4 * MEGABYTE  # what 100 bytes kept of each request would come to; measured: 1 to 2
BODY = json.dumps({"title": "Soak", "description": "x" * 100})
LARGE = " " * 65_537
UNSIGNED = token("stranger").rpartition(".")[0]
# Requests of each kind in a hundred: half are valid, the others are each invalid in a different way.
KINDS = {
    "read": 20,
    "unchanged": 15,
    "change": 5,
    "create": 3,
    "newcomer": 4,
    "search": 4,
    "thousand": 1,
    "refused": 15,
    "missing": 15,
    "misspelt": 8,
    "nowhere": 5,
    "odd method": 2,
    "too large": 3,
}


class Client:
    """Sends random requests over one connection and counts the responses by status."""

    def __init__(self, number: int, task: dict[str, Any]) -> None:
        self.dice = random.Random(number)
        self.token, self.reader, self.task = token(f"soak-{number}"), token("reader"), task
        self.seen: Counter[int] = Counter()

    def run(self, port: int, number: int, kinds: dict[str, int]) -> None:
        with closing(socket.create_connection(("127.0.0.1", port), timeout=60)) as connection:
            for kind in self.dice.choices(list(kinds), list(kinds.values()), k=number):
                connection.sendall(self.request(kind))
                self.seen[read_status(connection)] += 1

    def request(self, kind: str) -> bytes:
        new = f"{self.dice.getrandbits(128):032x}"
        path = f"/api/tasks/{self.task['id']}"
        line, bearer, more, body = {
            "read": (f"GET {path}", self.token, "", ""),
            "unchanged": (f"GET {path}", self.token, f'If-None-Match: "{self.task["updated_at"]}"\r\n', ""),
            "change": (f"PATCH {path}", self.token, "", "{}"),
            "create": ("POST /api/tasks", self.token, f"Idempotency-Key: {new}\r\n", BODY),
            "newcomer": ("POST /api/tasks", "", "", BODY),
            "visitor": ("GET /api/tasks", "", "", ""),
            "search": (f"GET /api/tasks?q={new}&limit=10", self.token, "", ""),
            "thousand": ("GET /api/tasks", self.reader, "", ""),
            "refused": ("GET /api/tasks", f"{UNSIGNED}.{new}", "", ""),
            "missing": (f"GET /api/tasks/{UUID(new)}", self.token, "", ""),
            "misspelt": (f"PATCH {path}", self.token, "", f'{{"{new}": 1}}'),
            "nowhere": (f"GET /{new}", self.token, f"X-Request-ID: {new}\r\n", ""),
            "odd method": (f"M{new[:12].upper()} /api/tasks", self.token, "", ""),
            "too large": ("POST /api/tasks", self.token, "", LARGE),
        }[kind]
        bearer = bearer or token(new)
        head = f"{line} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bearer}\r\nContent-Type: application/json\r\n"
        return f"{head}{more}Content-Length: {len(body)}\r\n\r\n{body}".encode()


def read_status(connection: socket.socket) -> int:
    """Read one response and return its status."""
    received = b""
    while b"\r\n\r\n" not in received:
        part = connection.recv(65536)
        assert part, "the connection was cut"
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    status = int(head[9:12])
    left = 0 if status in (204, 304) else int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0]) - len(body)
    while left > 0:
        left -= len(connection.recv(min(left, 65536)))
    return status


def make_clients(stack: Stack) -> list[Client]:
    """Return clients with one task each; the user `reader` has a thousand."""
    clients = []
    for number in range(CLIENTS):
        mine = {"Authorization": f"Bearer {token(f'soak-{number}')}"}
        clients.append(Client(number, stack.server.request("POST", "/api/tasks", BODY, **mine)[1]))
    reader = {"Authorization": f"Bearer {token('reader')}"}
    for _ in range(1000):
        stack.server.request("POST", "/api/tasks", BODY, **reader)
    return clients


def test_memory_does_not_grow(service: Start) -> None:
    with service() as stack, ThreadPoolExecutor(CLIENTS) as pool:
        clients, workers, held = make_clients(stack), stack.workers(), []
        # Each worker has a cache of tokens, and at least two of the eight connections.
        list(pool.map(lambda client: client.run(stack.server.port, CACHE_SIZE // 2, {"visitor": 1}), clients))
        for client in clients:
            client.seen.clear()
        for step in range(1, STEPS + 1):
            list(pool.map(lambda client: client.run(stack.server.port, STEP // CLIENTS, KINDS), clients))
            held.append([resident(worker) for worker in workers])
            SOAK.append((step * STEP, *(f"{bytes_ / MEGABYTE:.1f}" for bytes_ in held[-1]), max(stack.threads())))
        assert stack.workers() == workers
    seen = sum((client.seen for client in clients), Counter[int]())
    assert set(seen) == {200, 201, 304, 400, 401, 404, 405, 413}
    assert min(seen.values()) > STEPS * STEP / 100
    for before, after in zip(held[WARM - 1], held[-1], strict=True):
        assert after - before < MOST_GROWTH, held
