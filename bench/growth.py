"""`make bench-growth`: what a request costs as the table grows, with the plans; what a list costs as it grows.

Cost is processor time, of all of gunicorn and of its connections to PostgreSQL: unlike a wait, it says the same on a busy
machine and hides nothing behind the disk. The sizes take turns, so that what disturbs one disturbs all.
"""

import argparse
import json
import os
import random
import re
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from sqlalchemy import URL, Connection, NullPool, create_engine, event, make_url

from bench import report, service
from bench.report import Row
from tests.programs import ROOT, Program
from todo_api import create_app
from todo_api.extensions import db
from todo_api.models import new_task_id

TASKS = "/api/tasks"
SIZES = (10_000, 100_000, 2_000_000)
TASKS_EACH = 100
CALLERS = 100  # as many at each size, spread over the table: else the checks of tokens would be counted
LISTS = (10, 100, 1000, 10_000)
MOST = 1.3
REQUESTS = 100  # of one operation at one size in one round
CROWD = 8  # connections: all the threads of the workers
# Users take turns, so that a page of one user's tasks lies scattered over the table; ids are UUIDs of version 7.
FILL = """INSERT INTO tasks (user_id, id, title, description, is_completed, created_at, updated_at)
    SELECT %(prefix)s || n %% %(users)s, (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0')
            || '7' || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15))::uuid,
        'Task number ' || n, repeat('Two litres. ', 8), n %% 3 = 0, at, at
    FROM generate_series(0, %(tasks)s - 1) n, LATERAL (SELECT now() - (%(tasks)s - n) * interval '1 s') AS t (at)"""
FILL_USERS = "INSERT INTO users (id, created_at) SELECT %(prefix)s || n, now() FROM generate_series(0, %(users)s - 1) n"
CONNECTIONS = """SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"""

Request = tuple[str, str, Any]


class Stand:
    """The service on a table of one size, and those who call it."""

    def __init__(self, stack: ExitStack, server: str, size: int) -> None:
        self.size = size
        say(f"Filling a table with {size:,} tasks ...")
        url = make_url(server).set(drivername="postgresql+psycopg2", database=f"growth_{size}")
        with _connect(url.set(database="postgres")) as admin:
            admin.exec_driver_sql(f"CREATE DATABASE {url.database}")
        self.database_url = url.set(drivername="postgresql").render_as_string(hide_password=False)
        address, self.program = stack.enter_context(service.started(self.database_url))
        self.address, self.client = address, service.Client(address)
        self.database = stack.enter_context(_connect(url))
        users = size // TASKS_EACH
        self.fill("user-", users, size)
        if size == max(SIZES):
            for length in LISTS:
                self.fill(f"list-{length}-", 1, length)
        self.database.exec_driver_sql("VACUUM ANALYZE")
        self.tokens = {user: service.token(user) for user in (f"user-{n * users // CALLERS}" for n in range(CALLERS))}
        self.tasks = {
            user: [task["id"] for task in json.loads(self.client("GET", TASKS, bearer))]
            for user, bearer in self.tokens.items()
        }

    def fill(self, prefix: str, users: int, tasks: int) -> None:
        for statement in (FILL_USERS, FILL):
            self.database.exec_driver_sql(statement, {"prefix": prefix, "users": users, "tasks": tasks})

    def a_task(self, chance: random.Random) -> tuple[str, str]:
        user = chance.choice([*self.tokens])
        return user, chance.choice(self.tasks[user])

    def gunicorn(self) -> list[int]:
        """Return the processes of its group."""
        stats = ((int(path.parent.name), path.read_text()) for path in Path("/proc").glob("[0-9]*/stat"))
        return [pid for pid, stat in stats if int(stat.rpartition(")")[2].split()[2]) == self.program.process.pid]

    def processor_seconds(self) -> float:
        """Return what gunicorn and its connections to the database have used so far."""
        connections = [row[0] for row in self.database.exec_driver_sql(CONNECTIONS)]
        # a process's own clock, to the nanosecond (clock_getcpuclockid(3)): /proc counts in hundredths of a second
        return sum(time.clock_gettime(~pid << 3 | 2) for pid in [*self.gunicorn(), *connections])

    def cost(self, requests: list[tuple[str, Request]]) -> float:
        """Return the processor time of one of these requests, in microseconds."""
        before = self.processor_seconds()
        for bearer, (method, path, body) in requests:
            self.client(method, path, bearer, body)
        return (self.processor_seconds() - before) / len(requests) * 1e6


OPERATIONS: dict[str, Callable[[str], Request]] = {
    "get": lambda task_id: ("GET", f"{TASKS}/{task_id}", None),
    "page of 50": lambda _: ("GET", f"{TASKS}?limit=50", None),
    "create": lambda _: ("POST", TASKS, {"title": "Buy milk", "description": "Two litres. " * 8}),
    "update": lambda task_id: ("PATCH", f"{TASKS}/{task_id}", {"is_completed": int(task_id[-1], 16) % 2 == 0}),
}


def main() -> int:
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # leave as on Ctrl-C: nothing stays behind
    where = report.machine()
    service.use_own_secret()
    with ExitStack() as stack:
        server = stack.enter_context(service.database())
        stands = [Stand(stack, server, size) for size in SIZES]
        costs = compare(stands, options.rounds)
        plans = {stand.size: explain(stand) for stand in stands}
        lists = measure_lists(stands[-1])
        memory = measure_memory(stands[-1])
    show_plans(plans)
    rows = [*growth_rows(costs), *plan_rows(plans[max(SIZES)]), *list_rows(lists), *memory_rows(memory)]
    details = {"cost_us": costs, "plans": plans, "lists": lists, "worker_mib": memory}
    return report.publish(rows, where, details, options.out)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.growth")
    parser.add_argument("--rounds", type=int, default=20, help="in which the sizes take turns (20)")
    parser.add_argument("--out", type=Path, default=ROOT / "instance" / "bench-growth.json")
    return parser.parse_args()


def say(text: str) -> None:
    print(text, flush=True)


def compare(stands: list[Stand], rounds: int) -> dict[str, dict[int, list[float]]]:
    """Return the cost of each operation at each size, round by round; the first round warms up and is left out."""
    costs: dict[str, dict[int, list[float]]] = {name: {stand.size: [] for stand in stands} for name in OPERATIONS}
    for number in range(rounds + 1):
        say(f"Round {number} of {rounds} ...")
        for name, operation in OPERATIONS.items():
            for stand in stands[number % 3 :] + stands[: number % 3]:
                chance = random.Random(number)
                picked = [stand.a_task(chance) for _ in range(REQUESTS)]
                cost = stand.cost([(stand.tokens[user], operation(task_id)) for user, task_id in picked])
                if number:
                    costs[name][stand.size].append(cost)
    return costs


def explain(stand: Stand) -> dict[str, list[str]]:
    """Return the plans of the very statements that the operations run."""
    secret = os.environ["BETTER_AUTH_SECRET"]
    app = create_app(
        {
            "ENVIRONMENT": "production",
            "DATABASE_URL": stand.database_url,
            "BETTER_AUTH_SECRET": secret,
            "LOG_LEVEL": "ERROR",
        }
    )
    run: list[tuple[str, Any]] = []
    plans = {}
    with app.app_context():
        engine = db.engines["autocommit"]
        event.listen(engine, "before_cursor_execute", lambda *seen: run.append((seen[2], seen[3])))
    user, task_id = stand.a_task(random.Random(0))
    for name, operation in OPERATIONS.items():
        run.clear()
        method, path, body = operation(task_id)
        answer = app.test_client().open(
            path, method=method, json=body, headers={"Authorization": f"Bearer {stand.tokens[user]}"}
        )
        if answer.status_code >= 300 or not run:
            raise SystemExit(f"{name}: {answer.text}")
        plans[name] = [line for statement, values in run for line in plan(stand.database, statement, values)]
    with app.app_context():
        engine.dispose()
    return plans


def plan(database: Connection, statement: str, values: Any) -> list[str]:
    bare = re.sub(r"^SET LOCAL [^;]*; ", "", statement)
    analyzed = f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) {bare}"
    values = {**values, "id": new_task_id()} if "INSERT" in bare else values  # the task itself is there by now
    database.exec_driver_sql("BEGIN")
    lines = [row[0] for row in database.exec_driver_sql(analyzed, values)]
    database.exec_driver_sql("ROLLBACK")
    return lines


def show_plans(plans: dict[int, dict[str, list[str]]]) -> None:
    largest = max(plans)
    for name, lines in plans[largest].items():
        same = [f"{size:,}" for size in plans if size != largest and shape(plans[size][name]) == shape(lines)]
        say(f"\n{name} at {largest:,} tasks (the same plan at {' and '.join(same) or 'no other size'}):")
        say("\n".join(f"  {line}" for line in lines))


def shape(lines: list[str]) -> list[str]:
    """Return a plan without what depends on this very run."""
    return [re.sub(r"\(actual .*|'.*'|: \d+.*", "", line) for line in lines]


def plan_rows(plans: dict[str, list[str]]) -> list[Row]:
    scans = sum("Seq Scan" in line for lines in plans.values() for line in lines)
    return [Row(f"plans that read a whole table, {max(SIZES):,} tasks", scans, 0, "")]


def growth_rows(costs: dict[str, dict[int, list[float]]]) -> list[Row]:
    """Compare within each round, then take the median: a disturbance of one round is outvoted."""
    rows = []
    for name, by_size in costs.items():
        smallest = by_size[min(by_size)]
        for size in sorted(by_size)[1:]:
            ratio = median(cost / least for cost, least in zip(by_size[size], smallest, strict=True))
            middle = f"{median(smallest):.0f} → {median(by_size[size]):.0f} µs"
            rows.append(Row(f"{name}, {size:,} tasks : {min(by_size):,} ({middle})", ratio, MOST, "x"))
    return rows


def measure_lists(stand: Stand) -> dict[int, dict[str, float]]:
    """Return time and bytes of whole lists, by the tasks in them."""
    seen = {}
    for length in LISTS:
        say(f"Listing {length:,} tasks at once ...")
        bearer = service.token(f"list-{length}-0")
        size = len(stand.client("GET", TASKS, bearer))
        times = []
        repeats = max(10, 1000 // length)
        cost = median(stand.cost([(bearer, ("GET", TASKS, None))] * repeats) for _ in range(5))
        for _ in range(20):
            began = time.perf_counter()
            stand.client("GET", TASKS, bearer)
            times.append((time.perf_counter() - began) * 1000)
        seen[length] = {"bytes": size, "p50_ms": median(times), "cost_us": cost}
    return seen


def list_rows(lists: dict[int, dict[str, float]]) -> list[Row]:
    """Per task a longer list must not cost more than a shorter one."""
    rows = []
    for shorter, longer in pairwise(LISTS):
        ratio = lists[longer]["cost_us"] / longer / (lists[shorter]["cost_us"] / shorter)
        figures = f"{lists[longer]['p50_ms']:.1f} ms, {lists[longer]['bytes']:,} bytes"
        rows.append(Row(f"list of {longer:,} : {shorter:,}, per task ({figures})", ratio, MOST, "x"))
    return rows


def measure_memory(stand: Stand) -> dict[str, float]:
    """Return a worker's peak after its threads all listed the longest list at once, and after ten times as many."""
    say("All threads list 10,000 tasks ...")
    bearer = service.token(f"list-{max(LISTS)}-0")
    before = peak(stand)

    def lists(times: int) -> None:
        client = service.Client(stand.address)
        for _ in range(times):
            client("GET", TASKS, bearer)

    def crowd(times: int) -> float:
        with ThreadPoolExecutor(CROWD) as pool:
            list(pool.map(lists, [times] * CROWD))
        return peak(stand)

    return {"before": before, "first": crowd(2), "later": crowd(20)}


def peak(stand: Stand) -> float:
    """Return the most memory that one process of gunicorn ever held, in MiB."""
    statuses = (Path(f"/proc/{pid}/status").read_text() for pid in stand.gunicorn())
    return max(int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) for status in statuses) / 1024


def memory_rows(memory: dict[str, float]) -> list[Row]:
    figures = f"{memory['before']:.0f} MiB before, then {memory['first']:.0f} → {memory['later']:.0f}"
    return [
        Row(f"worker's peak, ten times the lists of 10,000 ({figures})", memory["later"] / memory["first"], MOST, "x")
    ]


def _connect(url: URL) -> Connection:
    return create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool).connect()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
