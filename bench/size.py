"""`make bench-size`: every route on 5 million tasks, beside a small table; the upgrade of such a table meanwhile.

The users have 100 tasks each, and one has as many as a user may have.
"""

import argparse
import json
import os
import random
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from statistics import quantiles
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, NullPool, create_engine, make_url

from bench import report, service
from bench.growth import FILL, FILL_USERS, PIECE, TASKS_EACH
from bench.service import SIGNING, TASKS, token
from tests.support.programs import GUNICORN, ROOT, Server, environment, run, running
from tests.support.releases import CODE_BEFORE, code_of

BEFORE_THE_OWNERS_ROW = CODE_BEFORE["0003", "0004", "0005"]
SMALL, LARGE = 10_000, 5_000_000
MOST = 10_000  # tasks of a user
TIMES, BULK_TIMES = 60, 8
CREATORS, PAUSE, CALM = 4, 0.02, 10
LIST = f"{TASKS}?limit="
BODY = {"title": "Buy milk", "description": "Two litres. " * 8}

# The expected status, the method, the path, the body and the headers. In braces: an attribute of the Caller.
ROUTES: dict[str, tuple[int, str, str, Any, dict[str, str]]] = {
    "get": (200, "GET", f"{TASKS}/{{task}}", None, {}),
    "get, another user's id": (403, "GET", f"{TASKS}/{{foreign}}", None, {}),
    "get, a missing id": (404, "GET", f"{TASKS}/{{random}}", None, {}),
    "list 50": (200, "GET", f"{LIST}50", None, {}),
    "list 50, unchanged": (304, "GET", f"{LIST}50", None, {"If-None-Match": "{tag}"}),
    "list 50 with the total": (200, "GET", f"{LIST}50&include_total=true", None, {}),
    "list 50 by title": (200, "GET", f"{LIST}50&sort=title", None, {}),
    "list 50, open and overdue": (200, "GET", f"{LIST}50&is_completed=false&due_to=2026-01-01", None, {}),
    "search, nothing found": (200, "GET", f"{LIST}50&q=nowhere", None, {}),
    "list 1000": (200, "GET", f"{LIST}1000", None, {}),
    "first 1000 of the feed": (200, "GET", f"{TASKS}/changes?limit=1000", None, {}),
    "feed, nothing new": (200, "GET", f"{TASKS}/changes?since={{since}}", None, {}),
    "create": (201, "POST", TASKS, BODY, {}),
    "create with a key": (201, "POST", TASKS, BODY, {"Idempotency-Key": "{random}"}),
    "update": (200, "PATCH", f"{TASKS}/{{task}}", {"title": "Buy bread"}, {}),
    "delete": (204, "DELETE", f"{TASKS}/{{last}}", None, {}),
    "complete all": (200, "PATCH", f"{TASKS}?is_completed=false", {"is_completed": True}, {}),
    "reopen all": (200, "PATCH", f"{TASKS}?is_completed=true", {"is_completed": False}, {}),
    "delete all, once": (200, "DELETE", f"{TASKS}?is_completed=false", None, {}),
}
OPPOSITE = {"complete all": "reopen all", "reopen all": "complete all"}


class Caller:
    """A user and their connection to the service."""

    def __init__(self, port: int, user: str) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=60)
        self._headers = {"Authorization": f"Bearer {token(user)}", "Content-Type": "application/json"}
        self.ids: list[str] = []
        self.foreign, self.tag, self.since = "", "", ""

    def __call__(self, name: str) -> tuple[bytes, float]:
        """Send a request; return the body and the milliseconds. Anything but the expected status ends the run."""
        expected, method, path, body, headers = ROUTES[name]
        sent = {key: value.format_map(self) for key, value in headers.items()}
        path = path.format_map(self)
        began = time.perf_counter()
        self._connection.request(method, path, body and json.dumps(body), {**self._headers, **sent})
        response = self._connection.getresponse()
        answer = response.read()
        milliseconds = (time.perf_counter() - began) * 1000
        if response.status != expected:
            raise SystemExit(f"{name} was answered {response.status}: {answer.decode(errors='replace')}")
        self.tag = response.headers["ETag"] if name == "list 50" else self.tag
        return answer, milliseconds

    def __getitem__(self, name: str) -> str:
        """Return what stands for {name} in a request."""
        if name == "random":
            return str(uuid4())
        if name in ("foreign", "tag", "since"):
            return str(getattr(self, name))
        return self.ids.pop() if name == "last" else random.choice(self.ids)

    def learn(self) -> None:
        """Learn the ids of some of one's tasks, and where the feed ends."""
        self.ids = [task["id"] for task in json.loads(self("list 1000")[0])]
        page = json.loads(self("first 1000 of the feed")[0])
        while page["has_more"]:
            self.since = page["next"]
            page = json.loads(self("feed, nothing new")[0])
        self.since = page["next"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.size")
    parser.add_argument("--tasks", type=int, default=LARGE, help="of the large table (5 million)")
    parser.add_argument("--out", type=Path, default=ROOT / "instance" / "bench-size.json")
    options = parser.parse_args()
    with service.database() as server, code_of(BEFORE_THE_OWNERS_ROW) as old:
        environments = {size: filled(server, size, old) for size in (SMALL, options.tasks)}
        upgrades = upgrade(environments[options.tasks], old)
        flask(environments[SMALL], ROOT, "db", "upgrade")
        routes = {size: measured(env) for size, env in environments.items()}
    lines = [
        "| request | small table: user of 100 | of 10,000 | large table: user of 100 | of 10,000 |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {' | '.join(cell(routes[size][user][name]) for size in routes for user in (0, 1))} |"
            for name in ROUTES
        ),
    ]
    print("p50 / p95 in ms", *lines, json.dumps(upgrades), sep="\n")
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(
        json.dumps({"upgrade": upgrades, "routes_ms": routes, "machine": report.machine()}, indent=1)
    )
    return 0


def cell(milliseconds: list[float]) -> str:
    if len(milliseconds) == 1:
        return f"{milliseconds[0]:.1f}"
    cuts = quantiles(milliseconds, n=20)
    return f"{cuts[9]:.1f} / {cuts[-1]:.1f}"


def connect(url: str) -> Connection:
    driven = make_url(url).set(drivername="postgresql+psycopg2")
    return create_engine(driven, isolation_level="AUTOCOMMIT", poolclass=NullPool).connect()


def flask(env: dict[str, str], code: Path, *command: str) -> float:
    """Run a flask command of some code; return its seconds."""
    began = time.monotonic()
    done = run(sys.executable, "-m", "flask", "--app", "wsgi", *command, cwd=code, env=env, seconds=3600)
    if done.returncode:
        raise SystemExit(done.stderr)
    return time.monotonic() - began


def filled(server: str, size: int, old: Path) -> dict[str, str]:
    """Fill a table of the old revision; return the environment of a service on it."""
    print(f"Filling a table with {size:,} tasks ...", flush=True)
    with connect(server) as admin:
        admin.exec_driver_sql(f"CREATE DATABASE size_{size}")
    url = make_url(server).set(database=f"size_{size}").render_as_string(hide_password=False)
    env = environment(ENVIRONMENT="production", DATABASE_URL=url, **{SIGNING: os.environ[SIGNING]})
    flask(env, old, "db", "upgrade")
    with connect(url) as database:
        for prefix, users, tasks in (("user-", size // TASKS_EACH, size), ("most-", 1, MOST - TIMES * 4)):
            values = {"prefix": prefix, "users": users, "tasks": tasks}
            database.exec_driver_sql(FILL_USERS, values)
            for first in range(0, tasks, PIECE):
                database.exec_driver_sql(FILL, {**values, "first": first, "last": min(first + PIECE, tasks) - 1})
        database.exec_driver_sql("VACUUM ANALYZE")
    return env


@contextmanager
def serving(env: dict[str, str], code: Path) -> Iterator[int]:
    with running(*GUNICORN, cwd=code, env=env) as program:
        yield Server(program).port


def upgrade(env: dict[str, str], old: Path) -> dict[str, Any]:
    """Upgrade while the old code creates tasks; return the seconds and the milliseconds of creations."""
    print("Upgrading it under load ...", flush=True)
    taken: list[tuple[float, float]] = []
    stop = threading.Event()

    def create(caller: Caller) -> None:
        while not stop.wait(PAUSE):
            taken.append((time.monotonic(), caller("create")[1]))

    with serving(env, old) as port, ThreadPoolExecutor(CREATORS) as threads:
        jobs = [threads.submit(create, Caller(port, f"user-{number}")) for number in range(CREATORS)]
        time.sleep(CALM)
        began = time.monotonic()
        seconds = flask(env, ROOT, "db", "upgrade")
        stop.set()
        for job in jobs:
            job.result()
    calm, meanwhile = ([one for at, one in taken if (at > began) == later] for later in (False, True))
    return {"seconds": round(seconds, 1), "before": cell(calm), "meanwhile": cell(meanwhile), "most_ms": max(meanwhile)}


def measured(env: dict[str, str]) -> list[dict[str, list[float]]]:
    """Return the milliseconds of each route, of a user with 100 tasks and of one with the most."""
    with serving(env, ROOT) as port:
        few, most, stranger = (Caller(port, user) for user in ("user-7", "most-0", "user-8"))
        for caller in (few, most, stranger):
            caller.learn()
        few.foreign = most.foreign = stranger.ids[0]
        return [{name: times(caller, name) for name in ROUTES} for caller in (few, most)]


def times(caller: Caller, name: str) -> list[float]:
    """Return the milliseconds of some requests, after two that warm up."""
    if name == "delete all, once":
        return [caller(name)[1]]
    taken = []
    for _ in range(2 + (BULK_TIMES if name in OPPOSITE else TIMES)):
        if name in OPPOSITE:  # so that there is something to change
            caller(OPPOSITE[name])
        taken.append(caller(name)[1])
    return taken[2:]


if __name__ == "__main__":
    report.run(main)
