"""`make bench`: the promises about speed and consistency, measured against a service that runs or one started here."""

import argparse
import json
import os
import resource
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench import report, service
from bench.report import Row
from tests.programs import ROOT

TASKS = "/api/tasks"
EVERYDAY = {"list": 6, "get": 4, "toggle": 4, "create": 4, "delete": 2}
RAMP_SECONDS = 10


def main() -> int:
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # leave as on Ctrl-C: nothing stays behind
    _allow_connections()
    where = report.machine()
    with ExitStack() as stack:
        if not options.url:
            say("Starting PostgreSQL and gunicorn ...")
            service.use_own_secret()
            options.url, _ = stack.enter_context(service.started(stack.enter_context(service.database())))
        rows, details = measure(options.url, options.users, options.seconds)
    return report.publish(rows, where, details, options.out)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; a target elsewhere must be meant."""
    parser = argparse.ArgumentParser(prog="bench.run")
    parser.add_argument("--url", help="a running service; by default one is started")
    parser.add_argument("--remote", action="store_true", help="the URL may be another machine's")
    parser.add_argument("--users", type=int, default=1000, help="of the big load (1000)")
    parser.add_argument("--seconds", type=int, default=60, help="of the big load (60, at most 180)")
    parser.add_argument("--out", type=Path, default=ROOT / "instance" / "bench.json")
    options = parser.parse_args(arguments)
    if options.url and not options.remote and not service.is_loopback(options.url):
        parser.error(f"{options.url} is not on this machine; if you may load it, say REMOTE=yes")
    if not (0 < options.users <= 20_000 and 0 < options.seconds <= 180):
        parser.error("users must be from 1 to 20000, seconds from 1 to 180")
    return options


def say(text: str) -> None:
    print(text, flush=True)


def measure(url: str, users: int, seconds: int) -> tuple[list[Row], dict[str, Any]]:
    """Run the phases; return the criteria and what else was seen."""
    names = f"bench-{secrets.token_hex(4)}"
    say("One user makes 1000 tasks ...")
    long = fill(url, f"{names}-long", 1000)
    say(f"100 users at once, without a pause, {RAMP_SECONDS} + 20 s ...")
    crowd = load(
        url, f"{names}-a", long["name"], users=100, pause=0, seconds=20, actions={**EVERYDAY, "list of 1000": 1}
    )
    say(f"{users} users, each thinking 1 s between requests, {RAMP_SECONDS} + {seconds} s ...")
    many = load(url, f"{names}-b", long["name"], users=users, pause=1, seconds=seconds, actions=EVERYDAY)
    say("Reading everything back ...")
    records = [long, *crowd.pop("records"), *many.pop("records")]
    acknowledged, bad = read_back(url, records)
    rows = [*criteria_of(crowd, many, users), consistency(acknowledged, bad)]
    return rows, {"crowd": crowd, "many": many, "acknowledged": acknowledged, "not_as_acknowledged": bad}


def criteria_of(crowd: Mapping[str, Any], many: Mapping[str, Any], users: int) -> list[Row]:
    def p95(request: str) -> float | None:
        value: float | None = crowd["by_request"].get(request, {}).get("p95_ms")
        return value

    return [
        Row("create a task, p95, 100 users at once", p95("create"), 2000, "ms"),
        Row("list 1000 tasks, p95, 100 users at once", p95("list of 1000"), 3000, "ms"),
        Row("toggle a task, p95, 100 users at once", p95("toggle"), 1000, "ms"),
        Row(f"requests failed of {crowd['total']['requests']:,}, 100 users at once", crowd["total"]["failures"], 0, ""),
        Row(f"any request, p95, {users:,} users thinking 1 s", many["total"]["p95_ms"], 500, "ms"),
        Row(f"requests failed of {many['total']['requests']:,}, {users:,} users", many["total"]["failures"], 0, ""),
    ]


def consistency(acknowledged: int, bad: int) -> Row:
    found = 100 * (acknowledged - bad) / acknowledged if acknowledged else None
    return Row(f"read back as acknowledged, {acknowledged:,} tasks", found, 99.9, "%", at_least=True)


def fill(url: str, user: str, size: int) -> dict[str, Any]:
    client, bearer = service.Client(url), service.token(user)
    made = (json.loads(client("POST", TASKS, bearer, {"title": f"Task {number}"})) for number in range(size))
    return {"name": user, "known": {task["id"]: task for task in made}, "gone": [], "unsure": [], "unsure_creates": 0}


def load(url: str, names: str, long: str, *, users: int, pause: int, seconds: int, actions: Mapping[str, int]) -> Any:
    """Let locust play the users; return what it wrote down."""
    with TemporaryDirectory(prefix="todo-bench-") as folder:
        written = Path(folder, "record.json")
        env = {**os.environ, "BENCH_NAMES": names, "BENCH_LONG": long, "BENCH_PAUSE": str(pause)}
        env |= {"BENCH_ACTIONS": json.dumps(actions), "BENCH_RECORD": str(written)}
        command = [sys.executable, "-m", "locust", "-f", "bench/locustfile.py", "--headless", "--only-summary"]
        command += [
            "--host",
            url,
            "-u",
            str(users),
            "-r",
            str(max(1, users // RAMP_SECONDS)),
            "-t",
            f"{RAMP_SECONDS + seconds}s",
        ]
        command += ["--stop-timeout", "30", "--reset-stats", "--loglevel", "WARNING"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.monotonic()
        with subprocess.Popen(
            command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as locust:
            try:
                _, messages = locust.communicate(timeout=RAMP_SECONDS + seconds + 60)
            finally:
                locust.kill()
        if not written.exists():
            raise SystemExit(messages)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        share = round(busy / (time.monotonic() - began), 2)
        return {**json.loads(written.read_text(encoding="utf-8")), "cores_used_by_load_tool": share}


def read_back(url: str, records: list[dict[str, Any]]) -> tuple[int, int]:
    """Return how many tasks were acknowledged, and how many are not as acknowledged."""
    client = service.Client(url)
    listed = [json.loads(client("GET", TASKS, service.token(record["name"]))) for record in records]
    bad = sum(map(not_as_acknowledged, records, listed))
    return sum(len(record["known"]) + len(record["gone"]) for record in records), bad


def not_as_acknowledged(record: Mapping[str, Any], listed: list[dict[str, Any]]) -> int:
    """Count tasks lost, doubled, in another state, back after deletion, or never asked for."""
    times = Counter(task["id"] for task in listed)
    found = {task["id"]: task for task in listed}
    wrong = sum(times[task_id] != 1 or found[task_id] != task for task_id, task in record["known"].items())
    wrong += sum(task_id in found for task_id in record["gone"])
    explained = {*record["known"], *record["gone"], *record["unsure"]}
    return wrong + max(0, len(found.keys() - explained) - record["unsure_creates"])


def _allow_connections() -> None:
    """Let gunicorn, which inherits it, and locust open a connection for each user."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 65536) if most > 0 else 65536, most))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
