"""The first minutes of a developer: `make run`, and the README's session word for word."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.programs import Program, copy_project, environment, free_port, run, running

pytestmark = pytest.mark.skipif(
    not shutil.which("make"), reason="There is no make: install it (Debian, Ubuntu: apt install make)"
)
needs_curl = pytest.mark.skipif(
    not shutil.which("curl"), reason="There is no curl: install it (Debian, Ubuntu: apt install curl)"
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A fresh clone that uses the current environment, so that nothing is downloaded."""
    project = copy_project(tmp_path / "clone")
    (project / ".venv").symlink_to(sys.prefix)
    return project


@pytest.fixture
def port() -> int:
    return free_port()


@contextmanager
def make_run(project: Path, port: int) -> Iterator[Program]:
    with running("make", "run", f"PORT={port}", cwd=project, env=environment()) as program:
        program.wait_for("Running on")
        yield program


def shell(script: str, project: Path) -> str:
    done = run("sh", "-euc", script, cwd=project, env=environment())
    assert done.returncode == 0, done.stderr
    return done.stdout


def errors_of(done: "subprocess.CompletedProcess[str]") -> list[str]:
    """Return the error output of a failed make, without make's own last line."""
    assert done.returncode != 0
    return [line for line in done.stderr.splitlines() if not line.startswith("make: ")]


@needs_curl
def test_the_session_of_the_readme_works_word_for_word(project: Path, port: int) -> None:
    readme = (project / "README.md").read_text(encoding="utf-8")
    [session] = re.findall(r"^```sh\n(TOKEN=.*?)^```", readme, re.DOTALL | re.MULTILINE)
    with make_run(project, port):
        created, listed, read, completed, deleted = shell(session.replace(":8000/", f":{port}/"), project).splitlines()
    assert json.loads(created)["title"] == "Buy milk"
    assert json.loads(listed) == [json.loads(created)]
    assert json.loads(read) == json.loads(created)
    assert json.loads(completed)["is_completed"] is True
    assert deleted == "deleted: 204"


@pytest.mark.slow
@needs_curl
def test_the_printed_line_works_and_tasks_outlive_a_restart(project: Path, port: int) -> None:
    body = """ -H 'Content-Type: application/json' -d '{"title": "Kept"}'"""
    with make_run(project, port) as program:
        curl = program.wait_for("curl -H")
        assert shell(curl, project) == "[]"
        created = shell(curl.strip() + body, project)
        assert json.loads(created)["user_id"] == "developer"
    with make_run(project, port) as program:
        assert json.loads(shell(program.wait_for("curl -H"), project)) == [json.loads(created)]
    assert (project / ".env").read_text() == (project / ".env.example").read_text()
    assert (project / "instance" / "development-secret").stat().st_mode & 0o777 == 0o600


@pytest.mark.slow
@needs_curl
def test_make_run_ignores_the_database_of_an_operators_shell(project: Path, port: int) -> None:
    elsewhere = {"DATABASE_URL": f"sqlite:///{project / 'elsewhere.db'}", "BETTER_AUTH_SECRET": "x" * 32}
    elsewhere |= {"BETTER_AUTH_URL": "https://app.example.com"}
    with running("make", "run", f"PORT={port}", cwd=project, env=environment(**elsewhere)) as program:
        program.wait_for("Running on")
        assert shell(program.wait_for("curl -H"), project) == "[]"
    assert not (project / "elsewhere.db").exists()


@pytest.mark.parametrize("taken", [True, False])
def test_an_unusable_port_is_reported_in_one_line(project: Path, port: int, taken: bool) -> None:
    with socket.create_server(("127.0.0.1", port)):
        [line] = errors_of(run("make", "run", f"PORT={port if taken else 'abc'}", cwd=project, env=environment()))
    assert line.startswith("Port ")


def test_a_missing_python_is_reported_in_one_line(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "clone")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("make", "sh", "cp", "rm", "env"):
        (programs / name).symlink_to(str(shutil.which(name)))
    [line] = errors_of(run("make", "run", cwd=project, env={"PATH": str(programs)}))
    assert line.startswith("Python 3.11 or newer is needed")


@pytest.mark.slow
def test_a_missing_network_is_reported_in_one_line(tmp_path: Path) -> None:
    """This first makes an environment with pip, which takes 3 s."""
    project = copy_project(tmp_path / "clone")
    nowhere = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": "http://127.0.0.1:1/", "PIP_NO_CACHE_DIR": "1"}
    [line] = errors_of(run("make", "run", cwd=project, env=environment(**nowhere)))
    assert line.startswith("The packages could not be installed")
