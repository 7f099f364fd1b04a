"""/metrics: its values, its token, and the sums over all processes."""

import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection
from mmap import mmap
from pathlib import Path

import pytest
from flask import Flask
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from werkzeug.test import TestResponse

from tests.conftest import MISSING, Caller, MakeApp, assert_error
from tests.support.databases import engine_of
from tests.support.issuers import Key, KeyServer
from tests.support.programs import Server, production_environment, serving
from tests.support.threads import wait_until
from tests.support.tokens import SECRET, token
from todo_api import __version__
from todo_api.database import get_database
from todo_api.serving import NotKept
from todo_api.serving.snapshots import SIZE, SLOTS, WORKERS
from todo_api.telemetry.metrics import AllProcesses, numbers_of

pytestmark = pytest.mark.sqlite_only
METRICS_TOKEN = "a-token-for-the-metrics-of-the-tests"
LISTS = ("todo_api_request_duration_seconds_count", "GET", "/api/tasks", "200")
Samples = dict[tuple[str, ...], float]


@pytest.fixture(autouse=True)
def _nothing_is_counted_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("todo_api.serving.snapshots.MEMORY", mmap(-1, WORKERS * (1 + 2 * SIZE)))


def samples(page: str) -> Samples:
    """Return the samples by name and label values, in the order of the label names."""
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def scrape(app: Flask, path: str = "/metrics", **headers: str) -> TestResponse:
    return app.test_client().get(path, headers=headers)


@pytest.fixture
def development(make_app: MakeApp) -> Flask:
    return make_app(ENVIRONMENT="development")


def figures(app: Flask) -> Samples:
    answer = scrape(app)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    return samples(answer.text)


def test_requests_are_counted_and_timed_by_route_method_and_status(development: Flask) -> None:
    alice = Caller(development.test_client(), "alice")
    for _ in range(3):
        alice.create()
    task = alice.create()
    alice.get(f"/api/tasks/{task['id']}")
    alice.get(MISSING)
    alice.get("/nowhere")
    alice("BREW", "/api/tasks")
    found = figures(development)
    count = "todo_api_request_duration_seconds_count"
    assert found[count, "POST", "/api/tasks", "201"] == 4
    assert found[count, "GET", "/api/tasks/{id}", "200"] == 1
    assert found[count, "GET", "/api/tasks/{id}", "404"] == 1
    assert found[count, "GET", "other", "404"] == 1
    assert found[count, "OTHER", "other", "405"] == 1
    assert 0 < found["todo_api_request_duration_seconds_sum", "POST", "/api/tasks", "201"] < 60
    assert found["todo_api_request_duration_seconds_bucket", "+Inf", "POST", "/api/tasks", "201"] == 4


def test_no_label_names_a_user_or_a_task(development: Flask) -> None:
    alice = Caller(development.test_client(), "alice")
    task = alice.create()
    alice.get(f"/api/tasks/{task['id']}?q=secret")
    page = scrape(development).text
    assert not [word for word in ("alice", task["id"], "secret") if word in page]


def test_rejected_tokens_are_counted_by_reason(development: Flask) -> None:
    for text in (token(exp=1), token(secret=SECRET[::-1]), token(secret=SECRET[::-1])):
        development.test_client().get("/api/tasks", headers={"Authorization": f"Bearer {text}"})
    found = figures(development)
    assert found["todo_api_token_refusals_total", "expired"] == 1
    assert found["todo_api_token_refusals_total", "signature"] == 2


@pytest.mark.parametrize(("conceal", "counted"), [("false", 2), ("true", 0)])
def test_attempts_on_foreign_tasks_are_counted_unless_concealed(make_app: MakeApp, conceal: str, counted: int) -> None:
    app = make_app(ENVIRONMENT="development", CONCEAL_FOREIGN_TASKS=conceal)
    alice, bob = (Caller(app.test_client(), user) for user in ("alice", "bob"))
    task = f"/api/tasks/{alice.create()['id']}"
    attempts = ("todo_api_foreign_task_attempts_total",)
    before = figures(app)[attempts]
    alice.get(task)
    bob.get(MISSING)
    assert figures(app)[attempts] == before
    bob.get(task)
    bob.put(task, json={"title": "Mine"})
    assert figures(app)[attempts] == before + counted


def test_connections_in_use_and_waiting_requests_are_shown(make_app: MakeApp) -> None:
    """One connection is held here, so that two requests wait for it."""
    app = make_app(ENVIRONMENT="development", DB_POOL_SIZE="1", DB_MAX_OVERFLOW="0", DB_POOL_TIMEOUT="20")
    in_use, waiting = ("todo_api_database_connections_in_use",), ("todo_api_database_connections_waiting",)
    assert (figures(app)[in_use], figures(app)[waiting]) == (0, 0)
    with app.app_context():
        held = get_database().connections.take()
    callers = [threading.Thread(target=Caller(app.test_client(), "alice").get, args=["/api/tasks"]) for _ in range(2)]
    for caller in callers:
        caller.start()
    wait_until(lambda: figures(app)[waiting] == 2)
    found = figures(app)
    held.close()
    for caller in callers:
        caller.join()
    assert (found[in_use], found[waiting]) == (1, 2)
    assert (figures(app)[in_use], figures(app)[waiting]) == (0, 0)


def test_the_time_of_the_last_successful_key_fetch_is_shown(make_app: MakeApp) -> None:
    key = Key("ES256", "one")
    with closing(KeyServer(key.jwk)) as issuer:
        app = make_app(ENVIRONMENT="development", JWKS_URL=issuer.url, JWT_ISSUER="i", JWT_AUDIENCE="a")
        fetched = ("todo_api_keys_fetched_timestamp_seconds",)
        assert figures(app)[fetched] == 0
        signed = key.token(iss="i", aud="a")
        assert app.test_client().get("/api/tasks", headers={"Authorization": f"Bearer {signed}"}).status_code == 200
        assert figures(app)[fetched] == pytest.approx(time.time(), abs=30)


def test_the_build_is_shown(development: Flask) -> None:
    python = ".".join(map(str, sys.version_info[:3]))
    assert figures(development)["todo_api_build_info", python, __version__] == 1


def test_outside_development_metrics_are_404_unless_a_token_is_configured(make_app: MakeApp) -> None:
    app = make_app(ENVIRONMENT="development")
    app.config["ENVIRONMENT"] = "production"
    assert_error(scrape(app, Authorization=f"Bearer {token()}"), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (f"bearer {METRICS_TOKEN}", None),
        ("", "TOKEN_MISSING"),
        ("Bearer ", "TOKEN_MISSING"),
        (f"Basic {METRICS_TOKEN}", "TOKEN_MISSING"),
        (f"Bearer {METRICS_TOKEN[:-1]}", "TOKEN_INVALID"),
        (f"Bearer {token()}", "TOKEN_INVALID"),
        ("Bearer \xe9", "TOKEN_INVALID"),
    ],
)
def test_outside_development_the_token_for_metrics_is_needed(make_app: MakeApp, header: str, code: str | None) -> None:
    app = make_app(ENVIRONMENT="development", METRICS_TOKEN=METRICS_TOKEN)
    app.config["ENVIRONMENT"] = "production"
    response = scrape(app, Authorization=header)
    if code:
        assert_error(response, 401, code)
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
    else:
        assert response.status_code == 200


@pytest.fixture(scope="module")
def settings(migrated_database: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return production_environment(
        migrated_database("metrics"),
        METRICS_TOKEN=METRICS_TOKEN,
        WEB_CONCURRENCY="2",
        DB_STATEMENT_TIMEOUT="60",
        TMPDIR=str(tmp_path_factory.mktemp("temporary")),
    )


@pytest.fixture(scope="module")
def server(settings: dict[str, str]) -> Iterator[Server]:
    with serving(settings) as server:
        yield server


def scraped(server: Server) -> Samples:
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"})
        response = connection.getresponse()
        assert response.status == 200
        return samples(response.read().decode())


def lists(server: Server) -> float:
    return scraped(server).get(LISTS, 0)


def wait_for_lists(server: Server, number: float) -> None:
    """Wait until the processes, which write their metrics five times a second, have counted so many lists."""
    wait_until(lambda: lists(server) == number)


def test_every_process_reports_the_sum_of_all(server: Server) -> None:
    """Each request has its own connection, so that the processes share them."""
    before = lists(server)
    for _ in range(60):
        server.request("GET", "/api/tasks")
    wait_for_lists(server, before + 60)
    assert [lists(server) for _ in range(6)] == [before + 60] * 6


def test_the_counts_of_a_replaced_worker_stay_and_its_gauges_go(server: Server) -> None:
    before = lists(server)
    for _ in range(20):
        server.request("GET", "/api/tasks")
    wait_for_lists(server, before + 20)  # what a killed worker has not reported yet is lost
    started = len(server.workers)
    os.kill(server.workers[-1], signal.SIGKILL)
    wait_until(lambda: len(server.workers) == started + 1)
    server.request("GET", "/api/tasks")
    wait_for_lists(server, before + 21)
    assert scraped(server)["todo_api_database_connections_in_use",] == 0


def test_every_process_reports_the_connections_in_use_of_all(server: Server, settings: dict[str, str]) -> None:
    """Two requests hold one each while the table is locked."""
    before = lists(server)
    in_use = ("todo_api_database_connections_in_use",)
    callers = [threading.Thread(target=server.request, args=["GET", "/api/tasks"]) for _ in range(2)]
    with engine_of(settings["DATABASE_URL"]) as engine, engine.begin() as connection:
        connection.exec_driver_sql("LOCK TABLE tasks")
        for caller in callers:
            caller.start()
        wait_until(lambda: scraped(server)[in_use] == 2)
        assert [scraped(server)[in_use] for _ in range(6)] == [2] * 6
    for caller in callers:
        caller.join()
    wait_until(lambda: scraped(server)[in_use] == 0)
    wait_for_lists(server, before + 2)


@pytest.mark.slow
def test_the_counts_begin_with_each_start_and_no_file_holds_them(settings: dict[str, str], tmp_path: Path) -> None:
    for _ in range(2):
        with serving(settings | {"TMPDIR": str(tmp_path), "WEB_CONCURRENCY": "1"}) as server:
            server.request("GET", "/api/tasks")
            wait_for_lists(server, 1)
            assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_cleaner_of_temporary_files_affects_neither_the_service_nor_its_counts(
    settings: dict[str, str], tmp_path: Path
) -> None:
    with serving(settings | {"TMPDIR": str(tmp_path)}) as server:
        server.request("GET", "/api/tasks")
        wait_for_lists(server, 1)
        for folder in tmp_path.iterdir():
            shutil.rmtree(folder)
        os.kill(server.workers[0], signal.SIGKILL)
        wait_until(lambda: len(server.workers) == 3)
        server.program.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(server.workers) == 5)
        server.request("GET", "/api/tasks")
        wait_for_lists(server, 2)
        assert server.program.process.poll() is None


def test_a_worker_without_memory_is_not_measured_but_shows_the_others(development: Flask) -> None:
    Caller(development.test_client(), "alice").get("/api/tasks")
    before = figures(development)[LISTS]
    development.extensions["metrics"].use(None)
    Caller(development.test_client(), "alice").get("/api/tasks")
    assert figures(development)[LISTS] == before
    with development.app_context(), pytest.raises(NotKept):
        development.extensions["metrics"].publish()


def test_a_worker_continues_the_counts_of_the_one_before_but_not_its_gauges(
    make_app: MakeApp,
) -> None:
    slot = SLOTS[1]
    former, current = (make_app(ENVIRONMENT="development") for _ in range(2))
    former.extensions["metrics"].use(slot)
    Caller(former.test_client(), "alice").get("/api/tasks")
    with former.app_context():
        held = get_database().connections.take()
    in_use = ("todo_api_database_connections_in_use",)
    assert (figures(former)[LISTS], figures(former)[in_use]) == (1, 1)
    held.close()
    slot.release()
    shown = samples(generate_latest(AllProcesses()).decode())
    assert LISTS in shown
    assert in_use not in shown
    current.extensions["metrics"].use(slot)
    Caller(current.test_client(), "alice").get("/api/tasks")
    assert (figures(current)[LISTS], figures(current)[in_use]) == (2, 0)


@pytest.mark.parametrize(
    "unknown",
    [
        [["todo_api_removed_total", "x"], [1]],
        [["todo_api_token_refusals"], [1]],
        [["todo_api_request_duration_seconds", "/api/tasks", "GET", "200"], [1, 2, 3]],
    ],
)
def test_what_another_release_counted_in_another_form_is_left_out(unknown: object) -> None:
    known = [["todo_api_token_refusals", "expired"], [1]]
    [slot, *_] = SLOTS
    slot.write(json.dumps([unknown, known]).encode())
    assert numbers_of(slot) == {("todo_api_token_refusals", "expired"): [1]}


@pytest.mark.slow
def test_a_reload_keeps_the_counts(server: Server) -> None:
    before = lists(server)
    server.request("GET", "/api/tasks")
    started = len(server.workers)
    server.program.process.send_signal(signal.SIGHUP)
    server.program.wait_for("Hang up: Master")
    wait_until(lambda: len(server.workers) == started + 2)
    server.request("GET", "/api/tasks")
    wait_for_lists(server, before + 2)
