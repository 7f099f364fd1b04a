"""What a user of the load does. What the service acknowledged is written down, to be read back afterwards."""

import json
import os
import random
import resource
from itertools import count
from pathlib import Path
from typing import Any

import gevent
from locust import FastHttpUser, constant, events, task

from bench.service import TASKS, token

PAUSE = float(os.environ["BENCH_PAUSE"])
NAMES = (f"{os.environ['BENCH_RUN']}-{PAUSE:g}-{number}" for number in count())
LONG = {"Authorization": f"Bearer {token(os.environ['BENCH_LONG'])}"}
ACTIONS = json.loads(os.environ["BENCH_ACTIONS"])  # how often, by name
PROGRESS_SECONDS = 10


class Member(FastHttpUser):
    """One user with a token and a connection of their own; one request, then a pause."""

    wait_time = constant(PAUSE)
    connection_timeout = network_timeout = 30
    everybody: list["Member"] = []

    def on_start(self) -> None:
        self.name = next(NAMES)
        self.headers = {"Authorization": f"Bearer {token(self.name)}", "Content-Type": "application/json"}
        self.known: dict[str, Any] = {}  # tasks as last acknowledged
        self.gone: list[str] = []
        self.unsure: list[str] = []  # being changed, or changed without an answer
        self.unsure_creates = 0
        self.everybody.append(self)

    @task
    def act(self) -> None:
        [action] = random.choices([*ACTIONS], [*ACTIONS.values()])
        if action == "list of 1000":
            self.client.get(TASKS, name=action, headers=LONG)
        elif action == "list":
            self.client.get(TASKS, name=action, headers=self.headers)
        elif action == "create" or not self.known:
            self.create()
        else:
            task_id = random.choice([*self.known])
            {"get": self.get, "toggle": self.toggle, "delete": self.delete}[action](task_id)

    def get(self, task_id: str) -> None:
        self.client.get(f"{TASKS}/{task_id}", name="get", headers=self.headers)

    def create(self) -> None:
        self.unsure_creates += 1
        new = {"title": f"Task {random.random()}", "description": "Two litres, and none of the blue ones"}
        answer = self.client.post(TASKS, json=new, name="create", headers=self.headers)
        if answer.status_code == 201:
            self.unsure_creates -= 1
            self.known[answer.json()["id"]] = answer.json()

    def toggle(self, task_id: str) -> None:
        change = {"is_completed": not self.known.pop(task_id)["is_completed"]}
        self.unsure.append(task_id)
        answer = self.client.patch(f"{TASKS}/{task_id}", json=change, name="toggle", headers=self.headers)
        if answer.status_code == 200:
            self.unsure.remove(task_id)
            self.known[task_id] = answer.json()

    def delete(self, task_id: str) -> None:
        del self.known[task_id]
        self.unsure.append(task_id)
        answer = self.client.delete(f"{TASKS}/{task_id}", name="delete", headers=self.headers)
        if answer.status_code == 204:
            self.unsure.remove(task_id)
            self.gone.append(task_id)


def figures(entry: Any) -> dict[str, Any]:
    parts = (50, 95, 99) if entry.num_requests else ()
    percentiles = {"p95_ms": None, **{f"p{part}_ms": entry.get_response_time_percentile(part / 100) for part in parts}}
    counts = {"requests": entry.num_requests, "failures": entry.num_failures, "per_second": round(entry.total_rps, 1)}
    return {**counts, **percentiles, "max_ms": round(entry.max_response_time)}


@events.test_start.add_listener
def show_progress(environment: Any, **_: Any) -> None:
    def show() -> None:
        for seconds in count(PROGRESS_SECONDS, PROGRESS_SECONDS):
            gevent.sleep(PROGRESS_SECONDS)
            users, total = environment.runner.user_count, environment.stats.total
            p95 = total.get_response_time_percentile(0.95)
            print(f"  {seconds} s: {users} users, {total.current_rps:.0f} requests/s, p95 {p95} ms", flush=True)

    gevent.spawn(show)


@events.quitting.add_listener
def write_down(environment: Any, **_: Any) -> None:
    stats, used = environment.stats, resource.getrusage(resource.RUSAGE_SELF)
    kept = ("name", "known", "gone", "unsure", "unsure_creates")
    document = {
        "total": figures(stats.total),
        "by_request": {entry.name: figures(entry) for entry in stats.entries.values()},
        "errors": [f"{error.to_name()}: {error.occurrences}" for error in stats.errors.values()],
        "processor_seconds_of_locust": round(used.ru_utime + used.ru_stime, 1),
        "records": [{name: getattr(member, name) for name in kept} for member in Member.everybody],
    }
    Path(os.environ["BENCH_OUT"]).write_text(json.dumps(document), encoding="utf-8")
