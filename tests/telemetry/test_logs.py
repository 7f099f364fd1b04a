"""The log: a line for each request, one format for all, and nothing personal in it."""

import errno
import io
import json
import logging
import re
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import gunicorn
import pytest
from flask import Flask
from werkzeug.serving import WSGIRequestHandler

from tests.conftest import MISSING, Caller, MakeApp, dispose, environ_for
from tests.support.programs import ROOT, environment, in_production, run, serving
from tests.support.threads import wait_until
from tests.support.tokens import SECRET, token
from todo_api import create_app
from todo_api.log_format import JSONFormatter, WithoutRequests
from todo_api.telemetry import access_log as reports
from todo_api.telemetry.requests import is_not_of_a_request

PRIVATE = ("Private title", "private search", "alice", "bob")


class Log(io.StringIO):
    """What the application's own handler has written."""

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.getvalue().splitlines()]

    @property
    def last(self) -> Any:
        return self.lines[-1]


def handler_of(app: Flask) -> logging.StreamHandler[Any]:
    """The application's own handler; pytest's stand behind it."""
    handler = app.logger.handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    return handler


def listen(app: Flask) -> Log:
    log = Log()
    handler_of(app).setStream(log)
    return log


@pytest.fixture
def production(databases: dict[str, str], tmp_path: Path) -> Iterator[Flask]:
    app = create_app(environ_for(databases["postgresql"]), tmp_path)
    yield app
    dispose(app)


@pytest.fixture
def log(production: Flask) -> Log:
    return listen(production)


@pytest.fixture
def alice(production: Flask) -> Caller:
    return Caller(production.test_client(), "alice")


@pytest.fixture
def bob(production: Flask) -> Caller:
    return Caller(production.test_client(), "bob")


def test_in_production_each_request_has_one_json_line(alice: Caller, log: Log) -> None:
    began = datetime.now(UTC)
    task = alice.create()
    alice.get(f"/api/tasks/{task['id']}", headers={"X-Request-ID": "my-request-1"})
    _, line = log.lines
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    assert timedelta(milliseconds=-1) <= datetime.fromisoformat(line.pop("time")) - began < timedelta(seconds=30)
    assert 0 < line.pop("database_ms") < line.pop("duration_ms") < 30_000
    assert re.fullmatch("[0-9a-f]{16}", line.pop("user"))
    assert line == {
        "level": "INFO",
        "logger": "todo_api.request",
        "request_id": "my-request-1",
        "method": "GET",
        "route": "/api/tasks/{id}",
        "status": 200,
        "error_code": None,
        "foreign_task": False,
    }


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "route"),
    [
        ("GET", MISSING, 404, "TASK_NOT_FOUND", "/api/tasks/{id}"),
        ("POST", "/api/tasks", 415, "UNSUPPORTED_MEDIA_TYPE", "/api/tasks"),
        ("GET", '/no"where\n', 404, "NOT_FOUND", "other"),
        ('BR"EW', "/api/tasks", 405, "METHOD_NOT_ALLOWED", "other"),
    ],
)
def test_a_refusal_is_logged_with_its_code_and_with_nothing_that_a_client_can_word(
    alice: Caller, log: Log, method: str, path: str, status: int, code: str, route: str
) -> None:
    assert alice(method, path).status_code == status
    [line] = log.lines
    assert (line["status"], line["error_code"], line["route"]) == (status, code, route)
    assert line["method"] == (method if method.isalpha() else "OTHER")


def test_a_user_has_one_hash_that_hangs_on_the_key(databases: dict[str, str], tmp_path: Path) -> None:
    hashes = []
    for key in ("the first key of two", "the first key of two", "the other key of two"):
        app = create_app(environ_for(databases["postgresql"], LOG_HASH_KEY=key.replace(" ", "-")), tmp_path)
        log = listen(app)
        Caller(app.test_client(), "alice").get(MISSING)
        Caller(app.test_client(), "bob").get(MISSING)
        hashes.append([line["user"] for line in log.lines])
        dispose(app)
    assert hashes[0] == hashes[1]
    assert len({*hashes[0], *hashes[2]}) == 4


@pytest.mark.parametrize("conceal", ["true", "false"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_an_attempt_on_a_foreign_task_stands_out_concealed_or_not(
    databases: dict[str, str], tmp_path: Path, method: str, conceal: str
) -> None:
    app = create_app(environ_for(databases["postgresql"], CONCEAL_FOREIGN_TASKS=conceal), tmp_path)
    task = Caller(app.test_client(), "alice").create()
    log = listen(app)
    bob = Caller(app.test_client(), "bob")
    bob(method, f"/api/tasks/{task['id']}", json={} if method == "PUT" else None)
    bob(method, MISSING, json={} if method == "PUT" else None)
    foreign, missing = log.lines
    assert (foreign["foreign_task"], foreign["level"]) == (True, "WARNING")
    assert (missing["foreign_task"], missing["level"]) == (False, "INFO")
    dispose(app)


def test_an_unexpected_error_is_one_line_with_its_traceback(
    alice: Caller, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("the cause\nof it all")

    monkeypatch.setattr("todo_api.tasks.views.own_tasks", fail)
    assert alice.get("/api/tasks").status_code == 500
    error, request = log.lines
    assert error["request_id"] == request["request_id"]
    assert "RuntimeError: the cause\nof it all" in error["traceback"]
    assert (error["level"], request["level"], request["error_code"]) == ("ERROR", "ERROR", "INTERNAL_ERROR")


def test_the_level_decides_which_requests_are_logged(databases: dict[str, str], tmp_path: Path) -> None:
    app = create_app(environ_for(databases["postgresql"], LOG_LEVEL="WARNING"), tmp_path)
    task = Caller(app.test_client(), "alice").create()
    log = listen(app)
    Caller(app.test_client(), "alice").get(f"/api/tasks/{task['id']}")
    Caller(app.test_client(), "bob").get(f"/api/tasks/{task['id']}")
    assert [line["error_code"] for line in log.lines] == ["TASK_FORBIDDEN"]
    dispose(app)


class Full(io.StringIO):
    def write(self, _: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_log_that_cannot_be_written_costs_no_client_an_answer(production: Flask, alice: Caller) -> None:
    handler_of(production).setStream(Full())
    assert alice.post("/api/tasks", json={"title": "Kept"}).status_code == 201


class Pieces(io.StringIO):
    """Keeps what each write was given."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[str] = []

    def write(self, text: str) -> int:
        self.written.append(text)
        return len(text)


def written_of(*traces: reports.Trace, as_json: bool = True) -> list[str]:
    """Return the text of each write for these requests."""
    pieces, logger = Pieces(), logging.getLogger("tests.reports")
    logger.setLevel(logging.INFO)
    reports.Reporter(logging.StreamHandler(pieces), logger, "key", as_json)._write(traces)
    return pieces.written


ASKED = reports.Trace(
    ended=1_770_629_400.125, seconds=1.5, database=0.25, request_id="r-1", method="GET", route="other", status=200
)


def test_a_lines_times_are_in_milliseconds() -> None:
    line = json.loads(written_of(ASKED)[0])
    assert (line["time"], line["duration_ms"], line["database_ms"]) == ("2026-02-09T09:30:00.125Z", 1500, 250)
    assert written_of(ASKED, as_json=False) == [
        "2026-02-09T09:30:00.125Z INFO [r-1] GET other 200 1500.0 ms, database 250.0 ms\n"
    ]


def test_lines_are_written_whole_in_pieces_that_do_not_mix(monkeypatch: pytest.MonkeyPatch) -> None:
    [line] = written_of(ASKED)
    pieces = written_of(*[ASKED] * 50)
    assert len(pieces) > 1
    assert max(map(len, pieces)) <= 4096
    assert "".join(pieces) == line * 50
    monkeypatch.setattr(reports, "PIECE_BYTES", 2 * len(line))
    assert written_of(*[ASKED] * 5) == [line * 2, line * 2, line]


def report_and_wait(reporter: reports.Reporter) -> threading.Event:
    """Start the thread that reports; after its first round it waits for what is returned."""
    began, go_on = threading.Event(), threading.Event()

    def meanwhile() -> None:
        began.set()
        go_on.wait(10)

    reporter.keep_reporting(meanwhile)
    began.wait(10)
    return go_on


def test_under_gunicorn_requests_are_reported_together_from_a_thread(production: Flask, alice: Caller) -> None:
    reporter, log = production.extensions["reporter"], listen(production)
    reported = report_and_wait(reporter)
    for _ in range(3):
        alice.get("/api/tasks")
    assert log.lines == []
    reporter.flush()
    assert [line["status"] for line in log.lines] == [200] * 3
    alice.get("/api/tasks")
    reported.set()
    wait_until(lambda: len(log.lines) == 4)


def test_the_thread_that_reports_goes_on_whatever_happens(production: Flask, alice: Caller) -> None:
    reporter, log = production.extensions["reporter"], listen(production)
    calls: list[int] = []

    def meanwhile() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("once")

    reporter.keep_reporting(meanwhile)
    alice.get("/api/tasks")
    wait_until(lambda: len(calls) >= 3 and len(log.lines) == 2)
    assert {line["message"] for line in log.lines if "message" in line} == {"requests could not be reported"}
    assert [line["status"] for line in log.lines if "status" in line] == [200]


def test_a_program_ends_though_a_thread_reports() -> None:
    program = (
        "import logging; from todo_api.telemetry.access_log import Reporter;"
        "Reporter(logging.StreamHandler(), logging.getLogger(), '', True).keep_reporting(int)"
    )
    assert run(sys.executable, "-c", program, cwd=ROOT, env=environment(), seconds=20).returncode == 0


def test_what_cannot_be_written_is_bounded(production: Flask, alice: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "MOST_WAITING", 2)
    reporter, log = production.extensions["reporter"], listen(production)
    stuck = report_and_wait(reporter)
    for number in range(4):
        alice.get("/api/tasks", headers={"X-Request-ID": str(number)})
    reporter.flush()
    stuck.set()
    assert [line["request_id"] for line in log.lines] == ["2", "3"]


def test_a_worker_that_ends_has_written_all(migrated_database: Callable[[str], str]) -> None:
    with serving(in_production(migrated_database("lines"))) as server:
        for number in range(20):
            server.request("GET", "/health/live", X_Request_ID=f"asked-{number}")
    assert all(f'"asked-{number}"' in server.program.output for number in range(20))


def test_in_development_the_line_is_for_reading(make_app: MakeApp) -> None:
    app = make_app(ENVIRONMENT="development")
    log = listen(app)
    Caller(app.test_client(), "alice").get(MISSING, headers={"X-Request-ID": "read-1"})
    app.logger.warning("Look here")
    line, warning = log.getvalue().splitlines()
    assert re.fullmatch(r"\S+Z WARNING \[-\] todo_api: Look here", warning)
    assert re.fullmatch(
        r"\S+Z INFO \[read-1\] GET /api/tasks/\{id\} 404 TASK_NOT_FOUND [\d.]+ ms, database [\d.]+ ms", line
    )


def test_server_timing_tells_developers_alone_where_the_time_went(make_app: MakeApp, production: Flask) -> None:
    timing = (
        Caller(make_app(ENVIRONMENT="development").test_client(), "alice").get("/api/tasks").headers["Server-Timing"]
    )
    found = {name: float(value) for name, value in re.findall(r"(\w+);dur=([\d.]+)", timing)}
    assert found.keys() == {"auth", "db", "total"}
    assert 0 < found["db"] < found["total"]
    assert 0 < found["auth"] < found["total"]
    assert "Server-Timing" not in Caller(production.test_client(), "alice").get("/api/tasks").headers


def test_a_formatter_writes_any_message_in_one_line() -> None:
    record = logging.LogRecord("lib", logging.ERROR, __file__, 1, 'forged\n{"level": %s}', ("x",), None)
    said = JSONFormatter().format(record)
    assert "\n" not in said
    assert json.loads(said)["message"] == 'forged\n{"level": x}'


@pytest.mark.parametrize(
    ("message", "args", "left"),
    [
        ("Invalid request from ip=1.2.3.4: Invalid HTTP Header: 'a b: secret'", (), "1.2.3.4: Invalid HTTP Header"),
        ("Invalid request from ip=::1: Invalid HTTP method: 'secret'", (), "ip=::1: Invalid HTTP method"),
        ("Invalid request from ip=: Invalid HTTP request line: 'secret'", (), "Invalid HTTP request line"),
        ("Invalid request from ip=1.2.3.4: 'secret'", (), "ip=1.2.3.4"),
        ("Error handling request %s", ("/api/tasks?q=secret",), "Error handling request"),
        ("Error handling request %s %s", ("GET", "/api/tasks?q=secret"), "Error handling request"),
        ("Booting worker with pid: %s", (1,), "Booting worker with pid: 1"),
    ],
)
def test_what_gunicorn_quotes_of_a_request_is_taken_out(message: str, args: tuple[Any, ...], left: str) -> None:
    assert gunicorn.__version__ == "27.0.1", "these are its messages"
    record = logging.LogRecord("gunicorn.error", logging.WARNING, __file__, 1, message, args, None)
    assert WithoutRequests().filter(record)
    assert "secret" not in record.getMessage()
    assert record.getMessage().endswith(left)


def test_the_development_server_is_silenced_where_it_would_write_query_strings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own line stands for its."""
    said: list[logging.LogRecord] = []
    logger = logging.getLogger("werkzeug")
    monkeypatch.setattr(logger, "handle", said.append)
    handler = WSGIRequestHandler.__new__(WSGIRequestHandler)
    handler.requestline, handler.client_address, handler.command = "GET /api/tasks?q=secret HTTP/1.1", ("::1", 1), "GET"
    handler.path = "/api/tasks?q=secret"
    monkeypatch.setattr(logger, "level", logging.INFO)
    handler.log_request(200, 2)
    [record] = said
    assert "secret" in record.getMessage()
    assert not is_not_of_a_request(record)
    assert is_not_of_a_request(logging.LogRecord("werkzeug", 20, "", 1, "Running on %s", ("http://x",), None))


def test_no_line_of_gunicorn_or_the_service_tells_a_secret(migrated_database: Callable[[str], str]) -> None:
    alice, refused = token("alice"), token("bob", secret=SECRET[::-1])
    with serving(in_production(migrated_database("logs"))) as server:
        _, task = server.request("POST", "/api/tasks", '{"title": "Private title"}', Authorization=f"Bearer {alice}")
        for path in ("/api/tasks?q=private+search", f"/api/tasks/{task['id']}", "/api/tasks?private+search=1"):
            server.request("GET", path, Authorization=f"Bearer {alice}")
        server.request("GET", "/api/tasks?q=private+search", Authorization=f"Bearer {refused}")
        server.raw(f"GET /api/tasks?q=private+search {alice} HTTP/1.1\r\nHost: x\r\n\r\n")
        server.program.wait_for("Invalid request from ip=")
    lines = [json.loads(line) for line in server.program.lines]
    assert {line["logger"].partition(".")[0] for line in lines} == {"gunicorn", "todo_api"}
    assert all(line["time"] and line["level"] for line in lines)
    for text in (*PRIVATE, "private+search", SECRET, task["id"], *alice.split(".")[1:], refused.split(".")[2]):
        assert text not in server.program.output, text


def test_gunicorns_own_lines_are_for_reading_in_development(tmp_path: Path) -> None:
    with serving(environment(**environ_for(f"sqlite:///{tmp_path / 'todo.db'}"))) as server:
        booting = server.program.wait_for("Booting worker")
    assert re.match(r"\S+Z INFO \[-\] gunicorn.error: Booting worker", booting)
