"""One user at their worst, and what another notices."""

import http.client
import statistics
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import cycle
from urllib.parse import quote

import pytest

from tests.faults.conftest import Start
from tests.support.load import Stack, resident
from tests.support.tokens import token

# Texts and a search that PostgreSQL compares character by character, for ten seconds.
SAME, OTHER = "\U0001f600", "\U0001f601"
FILL = """
    INSERT INTO users (id, created_at) VALUES ('greedy', now());
    INSERT INTO tasks (user_id, id, title, description, is_completed, created_at, updated_at)
    SELECT 'greedy', gen_random_uuid(), repeat(%s, 200), repeat(%s, 2000), false, now(), now()
    FROM generate_series(1, 10000)
"""
REQUESTS = {
    "lists": [("GET", "/api/tasks")],
    "searches": [("GET", f"/api/tasks?q={quote(OTHER + 199 * SAME)}")],
    "bulk changes": [("PATCH", f"/api/tasks?is_completed={state}") for state in ("false", "true")],
}
AT_ONCE, SECONDS = 50, 10
MEBIBYTE = 1 << 20


@pytest.mark.parametrize("kind", REQUESTS)
def test_a_user_at_their_worst_delays_no_other(service: Start, kind: str) -> None:
    with service() as stack, ThreadPoolExecutor(AT_ONCE) as threads:
        stack.query(FILL, SAME, SAME)
        create(stack, "modest")
        stop = threading.Event()
        greedy = [threads.submit(ask, stack, "greedy", REQUESTS[kind], stop) for _ in range(AT_ONCE)]
        seconds, memory = [], []
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            began = time.monotonic()
            status, _ = stack.server.request("GET", "/api/tasks?limit=1", Authorization=f"Bearer {token('modest')}")
            seconds.append(time.monotonic() - began)
            assert status == 200
            memory.append(sum(map(resident, stack.workers())))
        stop.set()
        statuses = sum((thread.result() for thread in greedy), Counter[int]())
        p95 = statistics.quantiles(seconds, n=20)[-1]
        print(f"{kind}: {statuses}, p95 of another user {p95:.3f} s, memory {max(memory) / MEBIBYTE:.0f} MiB")
        assert statuses[429] > 0
        assert statuses.keys() <= {200, 429, 503}
        assert p95 < 0.5
        assert max(memory) < 250 * MEBIBYTE


def create(stack: Stack, user: str) -> None:
    headers = {"Authorization": f"Bearer {token(user)}"}
    assert stack.server.request("POST", "/api/tasks", '{"title": "Mine"}', **headers)[0] == 201


def ask(stack: Stack, user: str, requests: list[tuple[str, str]], stop: threading.Event) -> Counter[int]:
    """Send requests, more than nginx would let pass, until the end; count the statuses."""
    statuses = Counter[int]()
    headers = {"Authorization": f"Bearer {token(user)}", "Content-Type": "application/json"}
    for method, path in cycle(requests):
        body = f'{{"is_completed": {"true" if path.endswith("false") else "false"}}}' if method == "PATCH" else None
        with closing(http.client.HTTPConnection("127.0.0.1", stack.server.port, timeout=30)) as connection:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            while response.read(MEBIBYTE):
                pass
        statuses[response.status] += 1
        if stop.wait(1):
            return statuses
    raise AssertionError("cycle() never ends")
