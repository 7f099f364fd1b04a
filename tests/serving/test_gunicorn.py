"""The production server: gunicorn with its own configuration, on PostgreSQL."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from unittest.mock import Mock

import pytest

from tests.support.postgres import children
from tests.support.programs import GUNICORN, Server, copy_project, environment, production_environment, run, running
from tests.support.threads import at_once, wait_until
from tests.support.tokens import SECRET, token
from todo_api.serving import startup

OTHER_SECRET = "another-secret-of-the-tests-0123456789-abcdef"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def settings(
    fresh_database: Callable[[str], str], project: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Production settings with a database made by `flask db upgrade`, as an operator does."""
    temporary = tmp_path_factory.mktemp("temporary")  # a killed gunicorn leaves a folder there
    env = production_environment(fresh_database("gunicorn"), TMPDIR=str(temporary))
    upgraded = run(sys.executable, "-m", "flask", "db", "upgrade", cwd=project, env=env)
    assert upgraded.returncode == 0, upgraded.stderr
    return env


@pytest.fixture(scope="module")
def server(settings: dict[str, str], project: Path) -> Iterator[Server]:
    with running(*GUNICORN, cwd=project, env=settings) as program:
        yield Server(program)


def test_tasks_are_kept_behind_gunicorn(server: Server) -> None:
    status, task = server.request("POST", "/api/tasks", '{"title": "Étude 任务"}'.encode())
    assert status == 201
    assert server.request("GET", f"/api/tasks/{task['id']}") == (200, task)
    assert task["title"] == "Étude 任务"


def test_a_worker_loads_neither_alembic_nor_the_parser_of_the_document(settings: dict[str, str], project: Path) -> None:
    code = (
        "import sys, todo_api; answer = todo_api.create_app().test_client().get('/health');"
        " print(answer.status_code, {'alembic', 'yaml'} & {*sys.modules})"
    )
    done = run(sys.executable, "-c", code, cwd=project, env=settings)
    assert done.stdout == "200 set()\n", done.stderr


@pytest.mark.parametrize("name", ["SCRIPT_NAME", "Script-Name", "PATH_INFO"])
def test_no_header_changes_the_path_of_a_request(server: Server, name: str) -> None:
    answer = server.raw(f"GET /api/tasks HTTP/1.1\r\nHost: x\r\n{name}: /api\r\nConnection: close\r\n\r\n")
    assert answer.startswith("HTTP/1.1 401 ")
    assert "TOKEN_MISSING" in answer


def test_two_authorization_headers_are_rejected(server: Server) -> None:
    header = f"Authorization: Bearer {token()}\r\n"
    answer = server.raw(f"GET /api/tasks HTTP/1.1\r\nHost: x\r\n{header}{header}Connection: close\r\n\r\n")
    assert answer.startswith("HTTP/1.1 401 ")
    assert "TOKEN_INVALID" in answer


@pytest.mark.parametrize(("size", "status"), [(11_000, 200), (32 * 1024, 200), (34 * 1024, 431)])
def test_cookies_of_another_service_on_the_domain_are_ignored(server: Server, size: int, status: int) -> None:
    head = f"Host: x\r\nAuthorization: Bearer {token()}\r\nCookie: {'c' * size}\r\nConnection: close\r\n\r\n"
    assert server.raw(f"GET /api/tasks?limit=1 HTTP/1.1\r\n{head}").startswith(f"HTTP/1.1 {status} ")


@pytest.mark.parametrize(("size", "status"), [(64 * 1024, 201), (64 * 1024 + 1, 413)])
@pytest.mark.parametrize("chunked", [False, True])
def test_the_size_of_a_body_is_limited_however_it_is_sent(
    server: Server, size: int, status: int, chunked: bool
) -> None:
    body = b'{"title": "x"}'.ljust(size)
    if chunked:
        answer = server.request("POST", "/api/tasks", iter([body[:100], body[100:]]), Transfer_Encoding="chunked")
    else:
        answer = server.request("POST", "/api/tasks", body)
    assert answer[0] == status


@pytest.mark.parametrize(
    "rest",
    [
        'Content-Length: 50\r\n\r\n{"title": "Cut off"}',
        'Transfer-Encoding: chunked\r\n\r\nzz\r\n{"title": "x"}\r\n0\r\n\r\n',
        'Transfer-Encoding: chunked\r\n\r\n50\r\n{"title": "Cut off"}',
    ],
)
def test_a_body_that_cannot_be_read_is_rejected_and_not_stored(server: Server, rest: str) -> None:
    head = f"Host: x\r\nAuthorization: Bearer {token('cut')}\r\nContent-Type: application/json\r\n"
    answer = server.raw(f"POST /api/tasks HTTP/1.1\r\n{head}{rest}")
    assert answer.startswith("HTTP/1.1 400 ")
    assert server.request("GET", "/api/tasks", Authorization=f"Bearer {token('cut')}") == (200, [])
    assert "Traceback" not in server.program.output


@pytest.mark.slow
def test_an_acknowledged_task_survives_killed_workers(settings: dict[str, str], project: Path) -> None:
    user = {"Authorization": f"Bearer {token('outliver')}"}
    with running(*GUNICORN, cwd=project, env=settings) as program:
        _, task = Server(program).request("POST", "/api/tasks", '{"title": "Kept"}', **user)
        program.stop(signal.SIGKILL)
    with running(*GUNICORN, cwd=project, env=settings) as program:
        assert Server(program).request("GET", "/api/tasks", **user) == (200, [task])


PROCESSORS = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
needs_processors = pytest.mark.skipif(
    not PROCESSORS, reason="run this on Linux: processes choose processors only there"
)


@pytest.mark.slow
@needs_processors
@pytest.mark.parametrize("each", [1, 2])
def test_the_processors_share_out_the_workers(settings: dict[str, str], project: Path, each: int) -> None:
    with running(*GUNICORN, cwd=project, env={**settings, "WEB_CONCURRENCY": str(len(PROCESSORS) * each)}) as program:
        master = program.process.pid

        def are_shared_out() -> bool:
            return allowed(children(master)) == sorted([one] for one in PROCESSORS * each)

        wait_until(are_shared_out)
        before = set(children(master))
        os.kill(master, signal.SIGHUP)
        wait_until(lambda: not before & set(children(master)) and are_shared_out(), 60)
        for _ in range(2):
            kill_one(children(master)[-1], master)
            wait_until(are_shared_out)  # another has taken its place


@pytest.mark.slow
@needs_processors
def test_workers_that_cannot_be_shared_out_evenly_use_all_processors(settings: dict[str, str], project: Path) -> None:
    workers = str(len(PROCESSORS) + 1)
    with running(*GUNICORN, "--workers", workers, cwd=project, env=settings) as program:
        program.wait_for("Listening at: ")
        wait_until(lambda: len(children(program.process.pid)) == int(workers))
        assert allowed(children(program.process.pid)) == [PROCESSORS] * int(workers)


def kill_one(worker: int, master: int) -> None:
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: worker not in children(master))


def allowed(processes: list[int]) -> list[list[int]]:
    """Return the processors that each process may use."""
    found = []
    for process in processes:
        with suppress(ProcessLookupError):
            found.append(sorted(os.sched_getaffinity(process)))
    return sorted(found)


@pytest.mark.parametrize(
    ("allowed", "workers", "taken", "chosen"),
    [
        ({4, 6}, 2, [], 4),
        ({4, 6}, 2, [4], 6),
        ({4, 6}, 2, [6], 4),
        ({4, 6}, 2, [4, 6, 6], 4),  # old workers that end count, too
        ({4, 6}, 4, [4, 6, 4], 6),
        ({4, 6}, 3, [4], None),
        ({4, 6}, 1, [], None),
        ({4}, 2, [], None),
        ({4, 6}, 2, [None, None], 4),
    ],
)
def test_the_processor_with_the_fewest_workers_is_chosen(
    monkeypatch: pytest.MonkeyPatch, allowed: set[int], workers: int, taken: list[int | None], chosen: int | None
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: allowed, raising=False)
    assert startup.choose_processor(workers, taken) == chosen


def test_a_service_that_may_not_choose_a_processor_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = Mock(side_effect=PermissionError)
    monkeypatch.setattr(os, "sched_setaffinity", refusal, raising=False)
    startup.stay_on(3)
    refusal.assert_called_once_with(0, {3})


def test_processes_that_meet_a_new_user_make_one_row(server: Server) -> None:
    """The creations of 16 connections are spread over both workers."""
    user = {"Authorization": f"Bearer {token('newcomer')}"}

    def create() -> int:
        while (status := server.request("POST", "/api/tasks", '{"title": "First"}', **user)[0]) == 429:
            time.sleep(0.1)  # on a busy machine, others of this user may be slow
        return status

    assert at_once([create] * 16) == [201] * 16
    assert len(server.request("GET", "/api/tasks", **user)[1]) == 16


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "sqlite:///todo.db"),
        ("BETTER_AUTH_SECRET", "short"),
        ("WEB_THREADS", "abc"),
    ],
)
def test_a_bad_setting_prevents_the_start_with_one_line(
    settings: dict[str, str], project: Path, name: str, value: str
) -> None:
    ended = run(*GUNICORN, cwd=project, env=settings | {"JWT_ISSUER": "i", "JWT_AUDIENCE": "a", name: value})
    assert ended.returncode not in (0, None)
    assert ended.stdout == ""
    [line] = ended.stderr.splitlines()
    assert line.startswith(f"todo_api: {name} ")


def test_a_reload_reads_the_files_of_settings_again_and_a_bad_one_keeps_the_old_workers(
    settings: dict[str, str], project: Path, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    env = settings | {"BETTER_AUTH_SECRET_FILE": str(file), "WEB_CONCURRENCY": "1"}
    del env["BETTER_AUTH_SECRET"]
    with running(*GUNICORN, cwd=project, env=env) as program:
        server = Server(program)
        assert server.request("GET", "/api/tasks")[0] == 200
        file.write_text("short")
        os.kill(program.process.pid, signal.SIGHUP)
        program.wait_for("Not reloaded")
        assert "todo_api: BETTER_AUTH_SECRET must have at least 32 bytes" in program.output
        assert "Traceback" not in program.output
        assert server.request("GET", "/api/tasks")[0] == 200

        file.write_text(OTHER_SECRET + "\n")
        program.lines.clear()
        os.kill(program.process.pid, signal.SIGHUP)
        program.wait_for("Worker exiting")
        assert server.request("GET", "/api/tasks")[0] == 401
        again = {"Authorization": f"Bearer {token(secret=OTHER_SECRET)}"}
        assert server.request("GET", "/api/tasks", **again)[0] == 200
        program.process.send_signal(signal.SIGTERM)
        assert program.process.wait(30) == 0


def test_a_reload_of_a_broken_configuration_file_keeps_the_old_workers(
    settings: dict[str, str], tmp_path: Path
) -> None:
    project = copy_project(tmp_path / "project")
    with running(*GUNICORN, cwd=project, env=settings | {"WEB_CONCURRENCY": "1"}) as program:
        server = Server(program)
        assert server.request("GET", "/api/tasks")[0] == 200
        with (project / "gunicorn.conf.py").open("a") as file:
            file.write("raise ValueError('broken')\n")
        os.kill(program.process.pid, signal.SIGHUP)
        program.wait_for("Not reloaded")
        assert server.request("GET", "/api/tasks")[0] == 200


def test_unchecked_claims_are_warned_about_once(server: Server) -> None:
    server.request("GET", "/api/tasks")
    assert server.program.output.count("JWT_ISSUER and JWT_AUDIENCE not set") == 1


CONTAINER = ("unshare", "--pid", "--fork", "--kill-child")
needs_unshare = pytest.mark.skipif(
    not shutil.which("unshare")
    or subprocess.run([*CONTAINER, "true"], check=False, capture_output=True).returncode != 0,
    reason="install util-linux and be root, in a container with CAP_SYS_ADMIN: this makes a namespace of processes",
)


@needs_unshare
@pytest.mark.parametrize("moment", ["its check", "its workers"])
def test_as_process_1_of_a_container_gunicorn_stops_while_it_starts(
    settings: dict[str, str], project: Path, moment: str
) -> None:
    """The kernel does not deliver a signal to process 1 that it does not handle."""
    with running(*CONTAINER, *GUNICORN, cwd=project, env=settings) as program:
        wait_until(lambda: children(program.process.pid))
        [gunicorn] = children(program.process.pid)
        if moment == "its check":
            wait_until(lambda: children(gunicorn))
        else:
            program.wait_for("Booting worker")
        os.kill(gunicorn, signal.SIGTERM)
        assert program.process.wait(15) == 0
        assert "Traceback" not in program.output


def test_a_bad_setting_ends_gunicorn_without_its_configuration_file_too(tmp_path: Path, project: Path) -> None:
    elsewhere = (*GUNICORN, "--chdir", str(project), "--no-control-socket")
    ended = run(*elsewhere, cwd=tmp_path, env=environment(DATABASE_URL="postgresql://h/d"))
    assert ended.returncode == 3
    assert "todo_api: BETTER_AUTH_SECRET is required" in ended.stderr
    assert "Traceback" not in ended.stderr
