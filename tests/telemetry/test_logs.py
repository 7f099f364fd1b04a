"""The log: a line for each request, one format for all lines, and nothing personal in it."""

import errno
import fcntl
import io
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from unittest.mock import Mock

import pytest
from flask import Flask
from werkzeug.serving import WSGIRequestHandler

from tests.conftest import MISSING, Caller, MakeApp, environ_for
from tests.support.load import needs_proc
from tests.support.programs import GUNICORN, ROOT, environment, free_port, production_environment, run, serving
from tests.support.threads import wait_until
from tests.support.tokens import SECRET, token
from todo_api.log_format import JSONFormatter
from todo_api.log_stream import BoundedStream, standard_error
from todo_api.tasks import OwnedTasks
from todo_api.telemetry.access_log import AccessLog
from todo_api.telemetry.logging import batches, is_server_message
from todo_api.telemetry.requests import RequestRecord

pytestmark = pytest.mark.sqlite_only
PRIVATE = ("Private title", "private search", "alice", "bob")


class Log(io.StringIO):
    """What an application has logged, and the threads that wrote it."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []
        self.threads: set[int] = set()

    def write(self, text: str) -> int:
        if text:
            self.writes.append(text)
            self.threads.add(threading.get_ident())
        return super().write(text)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.getvalue().splitlines()]


def listen(app: Flask, log: Log | None = None) -> Log:
    """Let the application log into a string, as production does."""
    log, handler = log or Log(), app.extensions["log"]
    handler.setStream(log)
    handler.setFormatter(AccessLog("production", app.config["LOG_HASH_KEY"]))
    return log


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    """An application that these tests may change."""
    return make_app()


@pytest.fixture
def log(app: Flask) -> Log:
    return listen(app)


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
        "tool": None,
        "foreign_task": False,
    }


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "route"),
    [
        ("POST", "/api/tasks", 415, "UNSUPPORTED_MEDIA_TYPE", "/api/tasks"),
        ("GET", "/docs/none", 404, "NOT_FOUND", "/docs/{asset}"),
        ("GET", '/no"where\n', 404, "NOT_FOUND", "other"),
        ('BR"EW', "/api/tasks", 405, "METHOD_NOT_ALLOWED", "other"),
    ],
)
def test_an_error_is_logged_with_its_code_and_without_text_of_the_client(
    alice: Caller, log: Log, method: str, path: str, status: int, code: str, route: str
) -> None:
    assert alice(method, path).status_code == status
    [line] = log.lines
    assert (line["status"], line["error_code"], line["route"]) == (status, code, route)
    assert line["method"] == (method if method.isalpha() else "OTHER")


def test_a_user_has_one_hash_that_depends_on_the_key(make_app: MakeApp) -> None:
    hashes = []
    for key in ("the-first-key-of-two", "the-first-key-of-two", "the-other-key-of-two"):
        app = make_app(LOG_HASH_KEY=key)
        log = listen(app)
        for user in ("alice", "bob"):
            Caller(app.test_client(), user).get(MISSING)
        hashes.append([line["user"] for line in log.lines])
    assert hashes[0] == hashes[1]
    assert len({*hashes[0], *hashes[2]}) == 4


@pytest.mark.parametrize("conceal", ["true", "false"])
def test_an_attempt_on_a_foreign_task_is_marked_unless_concealed(make_app: MakeApp, conceal: str) -> None:
    """Concealed, nobody looks whether there is such a task."""
    app = make_app(CONCEAL_FOREIGN_TASKS=conceal)
    task = Caller(app.test_client(), "alice").create()
    log, bob = listen(app), Caller(app.test_client(), "bob")
    for path in (f"/api/tasks/{task['id']}", MISSING):
        for method in ("GET", "PUT", "DELETE"):
            bob(method, path, json={} if method == "PUT" else None)
    found = [(line["foreign_task"], line["level"]) for line in log.lines]
    attempt = (False, "INFO") if conceal == "true" else (True, "WARNING")
    assert found == [attempt] * 3 + [(False, "INFO")] * 3


def test_an_unexpected_error_is_one_line_with_its_traceback(
    alice: Caller, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OwnedTasks, "list", Mock(side_effect=RuntimeError("the cause\nof it all")))
    assert alice.get("/api/tasks").status_code == 500
    error, request = log.lines
    assert error["request_id"] == request["request_id"]
    assert "RuntimeError: the cause\nof it all" in error["traceback"]
    assert (error["level"], request["level"], request["error_code"]) == ("ERROR", "ERROR", "INTERNAL_ERROR")


def test_the_level_decides_which_requests_are_logged(make_app: MakeApp) -> None:
    app = make_app(LOG_LEVEL="WARNING")
    task = Caller(app.test_client(), "alice").create()
    log = listen(app)
    for user in ("alice", "bob"):
        Caller(app.test_client(), user).get(f"/api/tasks/{task['id']}")
    assert [line["error_code"] for line in log.lines] == ["TASK_FORBIDDEN"]


def test_a_log_that_cannot_be_written_fails_no_request(app: Flask, alice: Caller) -> None:
    class Full(Log):
        def write(self, _: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    listen(app, Full())
    assert alice.post("/api/tasks", json={"title": "Kept"}).status_code == 201


def record_of(**values: Any) -> RequestRecord:
    record = RequestRecord("r-1")
    known = {"created": 1_770_629_400.125, "seconds": 1.5, "database_seconds": 0.25}
    record.__dict__.update(known, user_id=None, method="GET", route="other", status=200, **values)
    return record


def writes_of(*records: RequestRecord, environment: str = "production") -> list[str]:
    """Return what is written at once for these requests."""
    access_log = AccessLog(environment, "key")
    return list(batches(f"{access_log.format(record)}\n" for record in records))


def test_times_are_in_milliseconds() -> None:
    line = json.loads(writes_of(record_of())[0])
    assert (line["time"], line["duration_ms"], line["database_ms"]) == ("2026-02-09T09:30:00.125Z", 1500, 250)
    [line] = writes_of(record_of(error_code="NOT_FOUND"), environment="development")
    assert line == "2026-02-09T09:30:00.125Z INFO [r-1] GET other 200 NOT_FOUND 1500.0 ms, database 250.0 ms\n"


def test_whole_lines_are_written_at_once_up_to_the_atomic_size_of_a_pipe() -> None:
    [line] = writes_of(record_of())
    fitting = 4096 // len(line)
    assert writes_of(*[record_of()] * (fitting + 1)) == [line * fitting, line]


def test_under_gunicorn_a_thread_writes_the_log(app: Flask, alice: Caller, log: Log) -> None:
    app.extensions["log"].start()
    for _ in range(3):
        alice.get("/api/tasks")
    wait_until(lambda: len(log.lines) == 3)
    assert threading.get_ident() not in log.threads
    alice.get(MISSING)
    app.extensions["log"].stop()
    assert [line["status"] for line in log.lines] == [200] * 3 + [404], "a stop writes what waits"


def test_the_writing_thread_survives_any_exception(
    app: Flask, alice: Caller, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = iter([RuntimeError("once")])

    def fail_once(_: object) -> None:
        for failure in failures:
            raise failure

    monkeypatch.setattr("todo_api.telemetry.metrics.Metrics.publish", fail_once)
    app.extensions["log"].start()
    wait_until(lambda: log.lines)
    app.extensions["log"].enqueue(RequestRecord("r-1"))  # without any data of a request
    wait_until(lambda: len(log.lines) == 2)
    alice.get("/api/tasks")
    app.extensions["log"].stop()
    assert ["traceback" in line for line in log.lines] == [True, True, False]


def test_a_record_that_cannot_be_handled_is_logged_before_the_thread_starts_too(app: Flask, log: Log) -> None:
    app.extensions["log"].enqueue(RequestRecord("r-1"))  # without any data of a request
    assert ["traceback" in line for line in log.lines] == [True]


def test_a_line_that_meets_the_end_of_the_thread_is_written(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    class Late(SimpleQueue[Any]):
        def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
            queue.stop()
            super().put(item)

    monkeypatch.setattr("todo_api.telemetry.logging.SimpleQueue", Late)
    app = make_app()
    log, queue = listen(app), app.extensions["log"]
    queue.start()
    queue.enqueue(record_of())
    assert len(log.lines) == 1


def test_a_lasting_failure_is_logged_once_a_minute(app: Flask, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    failing, clock = Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")), Mock(return_value=1000.0)
    monkeypatch.setattr("todo_api.telemetry.metrics.Metrics.publish", failing)
    monkeypatch.setattr("todo_api.telemetry.logging.WRITE_INTERVAL", 0.01)
    monkeypatch.setattr(time, "monotonic", clock)
    app.extensions["log"].start()
    for lines in (1, 2):
        failing.reset_mock()
        wait_until(lambda: failing.call_count > 3)
        assert len(log.lines) == lines
        clock.return_value += 61
    app.extensions["log"].stop()


def test_a_log_that_nobody_reads_is_bounded_and_blocks_no_request(
    app: Flask, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_stuck, go_on = threading.Event(), threading.Event()

    class Stuck(Log):
        def write(self, text: str) -> int:
            if text:
                is_stuck.set()
                go_on.wait(20)
            return super().write(text)

    monkeypatch.setattr("todo_api.telemetry.logging.MAX_WAITING", 2)
    log = listen(app, Stuck())
    app.extensions["log"].start()
    for number in range(6):
        alice.get("/api/tasks", headers={"X-Request-ID": str(number)})
        assert number or is_stuck.wait(20)
    go_on.set()
    app.extensions["log"].stop()
    assert [line["request_id"] for line in log.lines] == ["0", "1", "2", None]
    assert log.lines[3]["level"] == "ERROR"
    assert "full" in log.lines[3]["message"]


PROGRAM = """
import logging
from todo_api import create_app
app = create_app()
app.logger.warning("ours")
logging.getLogger("another.package").info("not even at DEBUG")
logging.getLogger("another.package").warning("theirs")
logging.getLogger("another.package").error("theirs")
app.extensions["log"].start()
"""


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("DEBUG", [("todo_api", "WARNING"), ("another.package", "WARNING"), ("another.package", "ERROR")]),
        ("ERROR", [("another.package", "ERROR")]),
    ],
)
def test_each_line_is_written_once_and_the_writing_thread_does_not_keep_a_program_alive(
    level: str, expected: list[tuple[str, str]]
) -> None:
    """In its own process, as the root logger of this one belongs to the tests."""
    settings = environ_for("postgresql://nobody@127.0.0.1:1/none", JWT_ISSUER="i", JWT_AUDIENCE="a", LOG_LEVEL=level)
    ended = run(sys.executable, "-c", PROGRAM, cwd=ROOT, env=environment(**settings), seconds=20)
    assert ended.returncode == 0
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [(line["logger"], line["level"]) for line in lines] == expected


@pytest.mark.slow
def test_a_worker_writes_all_lines_before_it_ends(migrated_database: Callable[[str], str]) -> None:
    with serving(production_environment(migrated_database("lines"))) as server:
        for number in range(20):
            server.request("GET", "/health/live", X_Request_ID=f"asked-{number}")
    assert all(f'"asked-{number}"' in server.program.output for number in range(20))


@contextmanager
def serving_unread(settings: dict[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[str], bytes]]]:
    """Run gunicorn with a log of 4 KiB that nobody reads, and yield a function that sends it a request."""
    port = free_port()
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    command = [*GUNICORN[:-1], f"127.0.0.1:{port}"]
    process = subprocess.Popen(command, cwd=ROOT, env=settings, stdout=writer, stderr=writer, start_new_session=True)
    os.close(writer)

    def send(head: str) -> bytes:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            client.sendall(f"{head}\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            return client.recv(20)
        return b""

    try:
        wait_until(lambda: send(LIVE).startswith(b"HTTP/1.1 200 "))
        yield process, send
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(reader)


LIVE = "GET /health/live HTTP/1.1"
NOT_READ = {
    "requests": LIVE,
    "refused tokens": f"GET /api/tasks HTTP/1.1\r\nAuthorization: Bearer {token(exp=1)}",
    "broken requests": "GET /api/tasks HTTP/1.1 broken",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", NOT_READ)
def test_a_log_that_nobody_reads_delays_neither_requests_nor_the_end(
    migrated_database: Callable[[str], str], kind: str
) -> None:
    with serving_unread(production_environment(migrated_database("unread"))) as (process, send):
        for _ in range(100):
            assert send(NOT_READ[kind]).startswith(b"HTTP/1.1 ")
        assert send(LIVE).startswith(b"HTTP/1.1 200 ")
        began = time.monotonic()
        process.terminate()
        assert process.wait(20) == 0
        assert time.monotonic() - began < 10


@pytest.mark.slow
def test_a_log_that_nobody_reads_prevents_neither_a_reload_nor_a_new_worker(
    migrated_database: Callable[[str], str],
) -> None:
    settings = production_environment(migrated_database("unread"), WEB_CONCURRENCY="1")
    with serving_unread(settings) as (process, send):
        for _ in range(100):
            send(LIVE)
        [first] = children(process)
        os.kill(process.pid, signal.SIGHUP)
        wait_until(lambda: len(children(process)) == 1 and first not in children(process))
        [second] = children(process)
        os.kill(second, signal.SIGKILL)
        wait_until(lambda: len(children(process)) == 1 and second not in children(process))
        wait_until(lambda: send(LIVE).startswith(b"HTTP/1.1 200 "))
        process.terminate()
        assert process.wait(20) == 0


def children(process: subprocess.Popen[bytes]) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def test_a_stop_waits_for_the_reader_of_the_log_for_a_while_only(
    app: Flask, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    class Stuck(Log):
        def write(self, text: str) -> int:
            if text:
                go_on.wait(20)
            return super().write(text)

    monkeypatch.setattr("todo_api.telemetry.logging.END_TIMEOUT", 0.1)
    log = listen(app, Stuck())
    app.extensions["log"].start()
    alice.get("/api/tasks")
    began = time.monotonic()
    app.extensions["log"].stop()
    alice.get("/api/tasks")
    app.extensions["log"].flush()
    assert time.monotonic() - began < 5
    go_on.set()
    wait_until(lambda: log.lines)


def test_standard_error_gets_lines_again_once_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, written = threading.Event(), []

    class Slow(io.StringIO):
        def write(self, text: str) -> int:
            go_on.wait(20)
            written.append(text)
            return len(text)

    monkeypatch.setattr("todo_api.log_stream.standard_error", Slow)
    monkeypatch.setattr("todo_api.log_stream.TIMEOUT", 0.01)
    stream = BoundedStream()
    for number in range(3):
        stream.write(f"unread {number}")
    go_on.set()
    wait_until(lambda: written)
    monkeypatch.undo()
    wait_until(lambda: stream.write("read") and len(written) > 1)
    assert written[:2] == ["unread 0", "read"]


def test_a_reader_of_standard_error_that_has_gone_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Mock(write=Mock(side_effect=BrokenPipeError))
    monkeypatch.setattr("todo_api.log_stream.standard_error", lambda: broken)
    assert BoundedStream().write("unread") == 6
    broken.write.assert_called_once_with("unread")


def test_without_standard_error_lines_are_dropped_and_no_descriptor_is_left_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "__stderr__", None)
    with standard_error() as stream:
        descriptor = stream.fileno()
        assert descriptor != 2
        stream.write("dropped")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


@needs_proc
@pytest.mark.slow
def test_the_level_of_the_log_does_not_apply_to_gunicorns_lines(migrated_database: Callable[[str], str]) -> None:
    with serving(production_environment(migrated_database("level"), LOG_LEVEL="WARNING")) as server:
        server.wait_for_workers(2)
        server.request("GET", "/health/live")
    assert server.program.output.count('"Worker exiting') == 2
    assert '"todo_api.request"' not in server.program.output


def test_in_development_lines_are_human_readable(make_app: MakeApp) -> None:
    app, log = make_app(ENVIRONMENT="development"), Log()
    app.extensions["log"].setStream(log)
    Caller(app.test_client(), "alice").get(MISSING, headers={"X-Request-ID": "read-1"})
    app.logger.warning("Look here")
    line, warning = log.getvalue().splitlines()
    assert re.fullmatch(r"\S+Z WARNING \[-\] todo_api: Look here", warning)
    assert re.fullmatch(r"\S+Z INFO \[read-1\] GET /api/tasks/\{id\} 404 TASK_NOT_FOUND [\d.]+ ms, .*", line)


def test_a_formatter_writes_any_message_in_one_line() -> None:
    record = logging.LogRecord("lib", logging.ERROR, __file__, 1, 'forged\n{"level": %s}', ("x",), None)
    line = JSONFormatter().format(record)
    assert "\n" not in line
    assert json.loads(line)["message"] == 'forged\n{"level": x}'


def test_the_development_server_logs_no_query_strings(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    records: list[logging.LogRecord] = []
    logger = logging.getLogger("werkzeug")
    monkeypatch.setattr(logger, "handle", records.append)
    monkeypatch.setattr(logger, "level", logging.INFO)
    handler = WSGIRequestHandler.__new__(WSGIRequestHandler)
    handler.requestline, handler.client_address, handler.command = "GET /api/tasks?q=secret HTTP/1.1", ("::1", 1), "GET"
    handler.path = "/api/tasks?q=secret"
    handler.log_request(200, 2)
    [record] = records
    assert "secret" in record.getMessage()
    assert is_server_message in logger.filters
    assert not is_server_message(record)
    assert is_server_message(logging.LogRecord("werkzeug", 20, "", 1, "Running on %s", ("http://x",), None))


@pytest.fixture
def conversation(migrated_database: Callable[[str], str]) -> Iterator[Any]:
    with serving(production_environment(migrated_database("logs"))) as server:
        yield server


def test_no_line_of_gunicorn_or_the_service_has_a_secret(conversation: Any) -> None:
    server, alice, refused = conversation, token("alice"), token("bob", secret=SECRET[::-1])
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


def test_gunicorns_own_lines_are_human_readable_in_development(tmp_path: Path) -> None:
    with serving(environment(**environ_for(f"sqlite:///{tmp_path / 'todo.db'}"))) as server:
        booting = server.program.wait_for("Booting worker")
    assert re.match(r"\S+Z INFO \[-\] gunicorn.error: Booting worker", booting)
