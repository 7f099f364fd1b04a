"""`make bench`: the promises about speed and consistency, measured against a service that runs or one started here."""

import argparse
import json
import os
import resource
import secrets
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench import report, service
from bench.report import Row
from bench.service import TASKS
from tests.support.programs import ROOT

EVERYDAY = {"list": 6, "get": 4, "toggle": 4, "create": 4, "delete": 2}  # how often
RAMP_SECONDS = 10  # in which the users appear; not counted
LOCUST = (sys.executable, "-m", "locust", "-f", "bench/locustfile.py", "--headless", "--only-summary", "--reset-stats")

Load = dict[str, Any]


def main() -> int:
    options = parse()
    where = report.machine()
    _allow_connections()
    with ExitStack() as stack:
        url, own = options.url, not options.url
        if own:
            print("Starting PostgreSQL and gunicorn ...", flush=True)
            url, _ = stack.enter_context(service.started(stack.enter_context(service.database())))
        rows, details = measure(url, options.users, options.seconds, leave_tasks=own)
    return report.publish(rows, where, details, options.out)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; a target elsewhere must be meant."""
    parser = argparse.ArgumentParser(prog="bench.run")
    parser.add_argument("--url", help="a running service; by default one is started")
    parser.add_argument("--remote", action="store_true", help="the URL may be another machine's")
    parser.add_argument("--users", type=int, default=1000, help="of the big load (1000)")
    parser.add_argument("--seconds", type=int, default=60, help="of the big load (60, at most 120)")
    parser.add_argument("--out", type=Path, default=ROOT / "instance" / "bench.json")
    options = parser.parse_args(arguments)
    if options.url and not options.remote and not service.is_loopback(options.url):
        parser.error(f"{options.url} is not on this machine; if you may load it, say REMOTE=yes")
    if not (0 < options.users <= 10_000 and 0 < options.seconds <= 120):
        parser.error("users must be from 1 to 10000, seconds from 1 to 120")
    return options


def measure(url: str, users: int, seconds: int, *, leave_tasks: bool) -> tuple[list[Row], dict[str, Any]]:
    """Run the phases; return the criteria and what else was seen."""
    run = f"bench-{secrets.token_hex(4)}"
    print("One user makes 1000 tasks ...", flush=True)
    long = fill(url, f"{run}-long", 1000)
    settings = {"BENCH_RUN": run, "BENCH_LONG": long["name"]}
    print(f"100 users at once, without a pause, {RAMP_SECONDS} + 20 s ...", flush=True)
    crowd = load(url, {**EVERYDAY, "list of 1000": 1}, 100, 20, {**settings, "BENCH_PAUSE": "0"})
    print(f"{users:,} users, each thinking 1 s between requests, {RAMP_SECONDS} + {seconds} s ...", flush=True)
    many = load(url, EVERYDAY, users, seconds, {**settings, "BENCH_PAUSE": "1"})
    print("Reading everything back ...", flush=True)
    records = [long, *crowd.pop("records"), *many.pop("records")]
    bad = read_back(url, records, leave_tasks=leave_tasks)
    acknowledged = sum(len(record["known"]) + len(record["gone"]) for record in records)
    return criteria(crowd, many, users, acknowledged, bad), {"100 users": crowd, f"{users} users": many}


def criteria(crowd: Load, many: Load, users: int, acknowledged: int, bad: int) -> list[Row]:
    at_once = {name: crowd["by_request"].get(name, {}).get("p95_ms") for name in ("create", "list of 1000", "toggle")}
    total, found = crowd["total"], 100 * (1 - bad / acknowledged) if acknowledged else None
    return [
        Row("create a task, 100 users at once, p95", at_once["create"], 2000, "ms"),
        Row("list 1000 tasks, 100 users at once, p95", at_once["list of 1000"], 3000, "ms"),
        Row("toggle a task, 100 users at once, p95", at_once["toggle"], 1000, "ms"),
        Row(f"requests of 100 users failed, of {total['requests']:,}", total["failures"], 0),
        Row(f"any request, {users:,} users thinking 1 s, p95", many["total"]["p95_ms"], 500, "ms"),
        Row(f"requests of {users:,} users failed, of {many['total']['requests']:,}", many["total"]["failures"], 0),
        Row(f"tasks read back as acknowledged, of {acknowledged:,}", found, 99.9, "%", at_least=True),
    ]


def fill(url: str, user: str, size: int) -> dict[str, Any]:
    bearer = service.token(user)
    with closing(service.Client(url)) as client:
        made = [json.loads(client("POST", TASKS, bearer, {"title": f"Task {number}"})) for number in range(size)]
    return {"name": user, "known": {task["id"]: task for task in made}, "gone": [], "unsure": [], "unsure_creates": 0}


def load(url: str, actions: Mapping[str, int], users: int, seconds: int, settings: Mapping[str, str]) -> Load:
    """Let locust play the users; return what it wrote down."""
    with TemporaryDirectory(prefix="todo-bench-") as folder:
        out = Path(folder, "out.json")
        env = {**os.environ, **settings, "BENCH_ACTIONS": json.dumps(actions), "BENCH_OUT": str(out)}
        command = [*LOCUST, "--host", url, "--users", str(users), "--spawn-rate", str(max(1, users // RAMP_SECONDS))]
        command += ["--run-time", str(RAMP_SECONDS + seconds), "--stop-timeout", "30", "--loglevel", "WARNING"]
        with subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True) as locust:
            try:
                _, messages = locust.communicate(timeout=RAMP_SECONDS + seconds + 60)
            finally:
                locust.kill()
        if not out.exists():
            raise SystemExit(messages)
        written: Load = json.loads(out.read_text(encoding="utf-8"))
        return written


def read_back(url: str, records: list[dict[str, Any]], *, leave_tasks: bool) -> int:
    """Return how many tasks are not as acknowledged; take away all tasks unless they go with their database."""
    bad = 0
    with closing(service.Client(url)) as client:
        for record in records:
            bearer = service.token(record["name"])
            listed = json.loads(client("GET", TASKS, bearer))
            bad += not_as_acknowledged(record, listed)
            for task in () if leave_tasks else listed:
                client("DELETE", f"{TASKS}/{task['id']}", bearer)
    return bad


def not_as_acknowledged(record: Mapping[str, Any], listed: list[dict[str, Any]]) -> int:
    """Count tasks lost, doubled, in another state, back after deletion, or never asked for."""
    times = Counter(task["id"] for task in listed)
    found = {task["id"]: task for task in listed}
    wrong = sum(times[task_id] != 1 or found[task_id] != task for task_id, task in record["known"].items())
    wrong += sum(task_id in found for task_id in record["gone"])
    unexplained = found.keys() - {*record["known"], *record["gone"], *record["unsure"]}
    return int(wrong + max(0, len(unexplained) - record["unsure_creates"]))


def _allow_connections() -> None:
    """Let gunicorn and locust, which inherit it, open a connection for each user."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = 65536 if most == resource.RLIM_INFINITY else min(most, 65536)
    resource.setrlimit(resource.RLIMIT_NOFILE, (enough, most))


if __name__ == "__main__":
    report.run(main)
