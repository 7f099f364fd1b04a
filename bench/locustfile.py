"""What a user of the load does. What the service acknowledged is written down, to be read back afterwards."""

import json
import os
import random
from itertools import count
from pathlib import Path
from typing import Any

import gevent
from locust import FastHttpUser, constant, events, task

from bench.service import token

NAMES = (f"{os.environ['BENCH_NAMES']}-{number}" for number in count())
LONG = {"Authorization": f"Bearer {token(os.environ['BENCH_LONG'])}"}
ACTIONS = json.loads(os.environ["BENCH_ACTIONS"])  # how often, by name
PROGRESS_SECONDS = 10


class Member(FastHttpUser):
    """One user with a token and a connection of their own; one request, then a pause."""

    wait_time = constant(float(os.environ["BENCH_PAUSE"]))
    connection_timeout = network_timeout = 30
    everybody: list["Member"] = []

    def on_start(self) -> None:
        self.name = next(NAMES)
        self.headers = {"Authorization": f"Bearer {token(self.name)}", "Content-Type": "application/json"}
        self.known: dict[str, Any] = {}  # tasks as last acknowledged
        self.gone: list[str] = []
        self.unsure: set[str] = set()  # being changed, or changed without an answer
        self.unsure_creates = 0
        self.everybody.append(self)

    @task
    def act(self) -> None:
        [action] = random.choices([*ACTIONS], [*ACTIONS.values()])
        if action in {"get", "toggle", "delete"} and not self.known:
            action = "create"
        getattr(self, action.replace(" ", "_"))()

    def list(self) -> None:
        self.client.get("/api/tasks", name="list", headers=self.headers)

    def list_of_1000(self) -> None:
        self.client.get("/api/tasks", name="list of 1000", headers=LONG)

    def create(self) -> None:
        self.unsure_creates += 1
        new = {"title": f"Task {random.random()}", "description": "Two litres, and none of the blue ones"}
        answer = self.client.post("/api/tasks", json=new, name="create", headers=self.headers)
        if answer.status_code == 201:
            self.unsure_creates -= 1
            self.known[answer.json()["id"]] = answer.json()

    def get(self) -> None:
        self.client.get(f"/api/tasks/{random.choice([*self.known])}", name="get", headers=self.headers)

    def toggle(self) -> None:
        before = self._take()
        change = {"is_completed": not before["is_completed"]}
        answer = self.client.patch(f"/api/tasks/{before['id']}", json=change, name="toggle", headers=self.headers)
        if answer.status_code == 200:
            self.unsure.remove(before["id"])
            self.known[before["id"]] = answer.json()

    def delete(self) -> None:
        task_id = self._take()["id"]
        answer = self.client.delete(f"/api/tasks/{task_id}", name="delete", headers=self.headers)
        if answer.status_code == 204:
            self.unsure.remove(task_id)
            self.gone.append(task_id)

    def _take(self) -> Any:
        taken = self.known.pop(random.choice([*self.known]))
        self.unsure.add(taken["id"])
        return taken

    @property
    def record(self) -> dict[str, Any]:
        record = {name: getattr(self, name) for name in ("name", "known", "gone", "unsure_creates")}
        return {**record, "unsure": sorted(self.unsure)}


def figures(entry: Any) -> dict[str, Any]:
    percentiles = {
        f"p{part}_ms": entry.get_response_time_percentile(part / 100) if entry.num_requests else None
        for part in (50, 95, 99)
    }
    counts = {"requests": entry.num_requests, "failures": entry.num_failures, "max_ms": entry.max_response_time}
    return {**counts, "per_second": round(entry.total_rps, 1), **percentiles}


@events.test_start.add_listener
def show_progress(environment: Any, **_: Any) -> None:
    def show() -> None:
        for seconds in count(PROGRESS_SECONDS, PROGRESS_SECONDS):
            gevent.sleep(PROGRESS_SECONDS)
            total = figures(environment.stats.total)
            users = environment.runner.user_count
            print(f"  {seconds} s: {users} users, {total['requests']} requests, p95 {total['p95_ms']} ms", flush=True)

    gevent.spawn(show)


@events.quitting.add_listener
def write_down(environment: Any, **_: Any) -> None:
    stats = environment.stats
    document = {
        "total": figures(stats.total),
        "by_request": {entry.name: figures(entry) for entry in stats.entries.values()},
        "errors": [f"{error.to_name()}: {error.occurrences}" for error in stats.errors.values()],
        "records": [member.record for member in Member.everybody],
    }
    Path(os.environ["BENCH_RECORD"]).write_text(json.dumps(document), encoding="utf-8")
