"""The limit on what one user has under way: the others find a free thread."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from werkzeug.test import TestResponse

from tests.conftest import Caller, assert_error, dispose, environ_for
from todo_api import create_app
from todo_api.auth import fairness
from todo_api.auth.fairness import RateLimited, RunningRequests
from todo_api.tasks import OwnedTasks

pytestmark = pytest.mark.sqlite_only


@pytest.mark.parametrize(("threads", "limit"), [(1, 1), (2, 1), (4, 3), (16, 3)])
def test_a_user_has_a_few_requests_under_way_and_the_others_are_served(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int, limit: int
) -> None:
    app = create_app(environ_for(database_url, WEB_THREADS=str(threads)), tmp_path)
    go_on, waiting = threading.Event(), threading.Semaphore(0)
    get_list = OwnedTasks.list

    def slow_list(tasks: OwnedTasks, *arguments: object, **options: object) -> object:
        if tasks.user_id == "alice":
            waiting.release()
            assert go_on.wait(30)
        return get_list(tasks)

    def get(user: str) -> TestResponse:
        return Caller(app.test_client(), user).get("/api/tasks")

    monkeypatch.setattr(OwnedTasks, "list", slow_list)
    with ThreadPoolExecutor(limit) as pool:
        slow = [pool.submit(get, "alice") for _ in range(limit)]
        for _ in slow:
            assert waiting.acquire(timeout=30)
        for _ in range(3):
            answer = get("alice")
            assert_error(answer, 429, "RATE_LIMITED")
            assert answer.headers["Retry-After"] == "1"
            assert get("bob").status_code == 200
        go_on.set()
        assert [answer.result().status_code for answer in slow] == [200] * limit
    assert get("alice").status_code == 200
    dispose(app)


def test_requests_that_come_together_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fairness, "PATIENCE", 30)
    running = RunningRequests(2)
    began = [running.begin("alice") for _ in range(2)]
    with ThreadPoolExecutor(1) as pool:
        third = pool.submit(running.begin, "alice")
        running.end("bob", running.begin("bob"))
        assert not third.done()
        running.end("alice", began[0])
        running.end("alice", third.result(30))
    running.end("alice", began[1])


def test_a_request_waits_only_as_long_as_the_others_are_not_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fairness, "PATIENCE", 0.05)
    running = RunningRequests(1)
    began = running.begin("alice")
    with pytest.raises(RateLimited):
        running.begin("alice")
    monkeypatch.setattr(fairness, "PATIENCE", 0)
    with pytest.raises(RateLimited):
        running.begin("alice")
    running.end("alice", began)
    running.end("alice", running.begin("alice"))


def test_a_request_that_fails_is_no_longer_under_way(database_url: str, tmp_path: Path) -> None:
    app = create_app(environ_for(database_url), tmp_path)
    alice = Caller(app.test_client(), "alice")
    for _ in range(10):
        assert_error(alice.get("/api/tasks?sort=x"), 400, "VALIDATION_ERROR")
        assert_error(alice.get("/api/tasks/x"), 404, "TASK_NOT_FOUND")
    dispose(app)
