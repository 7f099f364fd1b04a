"""`make bench-growth`: what a request costs as the table grows, with the plans; what a list costs as it grows.

Cost is processor time, of all of gunicorn and of its connections to PostgreSQL: unlike a wait, it says the same on a
busy machine and hides nothing behind the disk. The sizes take turns, so that what disturbs one disturbs all.
"""

import argparse
import json
import os
import random
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from sqlalchemy import Connection, NullPool, create_engine, make_url

from bench import report, service
from bench.report import Row
from bench.service import TASKS
from tests.support.programs import ROOT
from tests.support.statements import database_of, recorded
from todo_api import create_app
from todo_api.models import new_task_id

SMALLEST, *_, LARGEST = SIZES = (10_000, 100_000, 2_000_000)
TASKS_EACH = 100
CALLERS = 100  # as many at each size, spread over the table: else the first sight of each token would be counted
LISTS = (10, 100, 1000, 10_000)
REQUESTS = 100  # of one operation at one size in one round
MOST = 1.3
PIECE = 50_000  # Ctrl-C waits for the statement that runs
# Users take turns, so that a page of one user's tasks lies scattered over the table; ids are UUIDs of version 7.
FILL_USERS = "INSERT INTO users (id, created_at) SELECT %(prefix)s || n, now() FROM generate_series(0, %(users)s - 1) n"
FILL = """INSERT INTO tasks (user_id, id, title, description, is_completed, created_at, updated_at)
    SELECT %(prefix)s || n %% %(users)s, (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0')
            || '7' || substr(md5(%(prefix)s || n), 1, 3) || '8' || substr(md5(%(prefix)s || n), 4, 15))::uuid,
        'Task number ' || n, repeat('Two litres. ', 8), n %% 3 = 0, at, at
    FROM generate_series(%(first)s, %(last)s) n, LATERAL (SELECT now() - (%(tasks)s - n) * interval '1 s') AS t (at)"""
CONNECTIONS = """SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"""

Request = tuple[str, str, Any]
OPERATIONS: dict[str, Callable[[str], Request]] = {
    "get": lambda task_id: ("GET", f"{TASKS}/{task_id}", None),
    "page of 50": lambda _: ("GET", f"{TASKS}?limit=50", None),
    "create": lambda _: ("POST", TASKS, {"title": "Buy milk", "description": "Two litres. " * 8}),
    "update": lambda task_id: ("PATCH", f"{TASKS}/{task_id}", {"is_completed": random.random() < 0.5}),
}
Costs = dict[str, dict[int, list[float]]]  # by operation, size and round


class Stand:
    """The service on a table of one size, and those who call it."""

    def __init__(self, stack: ExitStack, server: str, size: int) -> None:
        print(f"Filling a table with {size:,} tasks ...", flush=True)
        self.size = size
        admin = _connect(server)
        admin.exec_driver_sql(f"CREATE DATABASE growth_{size}")
        admin.close()
        self.database_url = make_url(server).set(database=f"growth_{size}").render_as_string(hide_password=False)
        self.url, self.program = stack.enter_context(service.started(self.database_url))
        self.database = stack.enter_context(_connect(self.database_url))
        users = size // TASKS_EACH
        self.fill("user-", users, size)
        for length in LISTS if size == LARGEST else ():
            self.fill(f"list-{length}-", 1, length)
        self.database.exec_driver_sql("VACUUM ANALYZE")
        self.client = service.Client(self.url)
        self.callers: list[tuple[str, list[str]]] = []
        for number in range(CALLERS):
            bearer = service.token(f"user-{number * users // CALLERS}")
            self.callers.append((bearer, [task["id"] for task in json.loads(self.client("GET", TASKS, bearer))]))

    def fill(self, prefix: str, users: int, tasks: int) -> None:
        values = {"prefix": prefix, "users": users, "tasks": tasks}
        self.database.exec_driver_sql(FILL_USERS, values)
        for first in range(0, tasks, PIECE):
            last = min(first + PIECE, tasks) - 1
            self.database.exec_driver_sql(FILL, {**values, "first": first, "last": last})

    def pick(self, chance: random.Random, operation: Callable[[str], Request]) -> tuple[str, Request]:
        bearer, task_ids = chance.choice(self.callers)
        return bearer, operation(chance.choice(task_ids))

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

    def peak(self) -> float:
        """Return the most memory that one process of gunicorn ever held, in MiB."""
        statuses = (Path(f"/proc/{pid}/status").read_text() for pid in self.gunicorn())
        return max(int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) for status in statuses) / 1024


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.growth")
    parser.add_argument("--rounds", type=int, default=20, help="in which the sizes take turns (20)")
    parser.add_argument("--out", type=Path, default=ROOT / "instance" / "bench-growth.json")
    options = parser.parse_args()
    where = report.machine()
    with ExitStack() as stack:
        server = stack.enter_context(service.database())
        stands = [Stand(stack, server, size) for size in SIZES]
        costs = compare(stands, options.rounds)
        lists = {length: list_cost(stands[-1], length) for length in LISTS}
        memory = peaks(stands[-1])
        plans = {stand.size: plans_of(stand) for stand in stands}  # last: its connections end
    show(plans)
    rows = [*growth_rows(costs), *list_rows(lists), memory_row(*memory)]
    scans = sum("Seq Scan" in line for lines in plans[LARGEST].values() for line in lines)
    rows.append(Row(f"plans at {LARGEST:,} tasks that read a whole table", scans, 0))
    details = {"cost_us": costs, "plans": plans, "lists_us_and_bytes": lists, "peaks_mib": memory}
    return report.publish(rows, where, details, options.out)


def compare(stands: list[Stand], rounds: int) -> Costs:
    """Return the cost of each operation at each size; the first round warms up and is left out."""
    costs: Costs = {name: {stand.size: [] for stand in stands} for name in OPERATIONS}
    for number in range(rounds + 1):
        print(f"Round {number} of {rounds} ...", flush=True)
        for name, operation in OPERATIONS.items():
            for stand in random.sample(stands, len(stands)):
                chance = random.Random(number)
                cost = stand.cost([stand.pick(chance, operation) for _ in range(REQUESTS)])
                costs[name][stand.size] += [cost] if number else []
    return costs


def growth_rows(costs: Costs) -> list[Row]:
    """Compare within each round, then take the median: what disturbed one round is outvoted."""
    rows = []
    for name, by_size in costs.items():
        for size in SIZES[1:]:
            ratio = median(cost / least for cost, least in zip(by_size[size], by_size[SMALLEST], strict=True))
            figures = f"{median(by_size[size]):.0f} : {median(by_size[SMALLEST]):.0f} µs"
            rows.append(Row(f"{name}, {size:,} : {SMALLEST:,} tasks ({figures})", ratio, MOST, "x"))
    return rows


def plans_of(stand: Stand) -> dict[str, list[str]]:
    """Return the plans of the very statements that the operations run."""
    secret = os.environ[service.SIGNING]
    app = create_app({"LOG_LEVEL": "ERROR", "DATABASE_URL": stand.database_url, service.SIGNING: secret})
    plans = {}
    for name, operation in OPERATIONS.items():
        bearer, (method, path, body) = stand.pick(random.Random(0), operation)
        with recorded(app) as statements:
            app.test_client().open(path, method=method, json=body, headers={"Authorization": f"Bearer {bearer}"})
        plans[name] = [line for statement, values in statements for line in explain(stand.database, statement, values)]
    database_of(app).connections.pool.dispose()
    return plans


def explain(database: Connection, statement: str, values: Any) -> list[str]:
    values = {**values, "id": new_task_id()} if "INSERT" in statement else values  # the task itself is there by now
    database.exec_driver_sql("BEGIN")
    lines = database.exec_driver_sql(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) {statement}", values)
    plan = [row[0] for row in lines]
    database.exec_driver_sql("ROLLBACK")
    return plan


def show(plans: dict[int, dict[str, list[str]]]) -> None:
    """Print the plans at the largest size, and those of other sizes that differ in more than their numbers."""

    def shape(lines: list[str]) -> list[str]:
        return [re.sub(r"\(actual .*|'.*'|: \d+.*", "", line) for line in lines]

    for name, largest in plans[LARGEST].items():
        for size in sorted(plans, reverse=True):
            if size == LARGEST or shape(plans[size][name]) != shape(largest):
                print(f"\nPlan of {name} at {size:,} tasks:", *plans[size][name], sep="\n  ")
            else:
                print(f"At {size:,} tasks: the same.")


def list_cost(stand: Stand, length: int) -> tuple[float, int]:
    """Return microseconds and bytes of a whole list."""
    print(f"Listing {length:,} tasks ...", flush=True)
    bearer = service.token(f"list-{length}-0")
    size = len(stand.client("GET", TASKS, bearer))
    return median(stand.cost([(bearer, ("GET", TASKS, None))] * 20) for _ in range(7)), size


def list_rows(lists: dict[int, tuple[float, int]]) -> list[Row]:
    """Linear or better: no task of a longer list costs more than one of a shorter."""
    rows = []
    for shorter, longer in pairwise(LISTS):
        ratio = lists[longer][0] / longer / (lists[shorter][0] / shorter)
        figures = f"{lists[longer][0] / 1000:.1f} ms, {lists[longer][1]:,} bytes"
        rows.append(Row(f"list of {longer:,} : {shorter:,}, per task ({figures})", ratio, MOST, "x"))
    return rows


def peaks(stand: Stand) -> tuple[float, float, float]:
    """Return a worker's peak before and after its threads all list the most tasks, and after ten times as many."""
    print(f"Listing {LISTS[-1]:,} tasks on all threads ...", flush=True)
    bearer, threads = service.token(f"list-{LISTS[-1]}-0"), 8

    def listing(times: int) -> None:
        client = service.Client(stand.url)
        for _ in range(times):
            client("GET", TASKS, bearer)

    seen = [stand.peak()]
    for times in (3, 30):
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(listing, [times] * threads))
        seen.append(stand.peak())
    return seen[0], seen[1], seen[2]


def memory_row(before: float, first: float, later: float) -> Row:
    figures = f"MiB: {before:.0f}, {first:.0f}, {later:.0f}"
    return Row(f"a worker's peak after 240 : 24 lists of {LISTS[-1]:,} ({figures})", later / first, MOST, "x")


def _connect(url: str) -> Connection:
    driven = make_url(url).set(drivername="postgresql+psycopg2")
    return create_engine(driven, isolation_level="AUTOCOMMIT", poolclass=NullPool).connect()


if __name__ == "__main__":
    report.run(main)
