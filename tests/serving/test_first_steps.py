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

from tests.support import postgres
from tests.support.programs import ROOT, Program, copy_project, environment, free_port, run, running

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="install make to run these tests")
needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="install curl to run these tests")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A fresh clone whose environment is the one in use, so that nothing is downloaded."""
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


def said(done: "subprocess.CompletedProcess[str]") -> list[str]:
    """What a failed make says, its own last line aside."""
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


@needs_curl
def test_make_run_keeps_away_from_the_database_of_an_operators_shell(project: Path, port: int) -> None:
    elsewhere = {"DATABASE_URL": f"sqlite:///{project / 'elsewhere.db'}", "BETTER_AUTH_SECRET": "x" * 32}
    elsewhere |= {"BETTER_AUTH_URL": "https://app.example.com"}
    with running("make", "run", f"PORT={port}", cwd=project, env=environment(**elsewhere)) as program:
        program.wait_for("Running on")
        assert shell(program.wait_for("curl -H"), project) == "[]"
    assert not (project / "elsewhere.db").exists()


@pytest.mark.parametrize("taken", [True, False])
def test_a_port_that_cannot_be_had_is_one_line(project: Path, port: int, taken: bool) -> None:
    with socket.create_server(("127.0.0.1", port)):
        [line] = said(run("make", "run", f"PORT={port if taken else 'abc'}", cwd=project, env=environment()))
    assert line.startswith("Port ")


def test_a_missing_python_is_one_line(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "clone")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("make", "sh", "cp", "rm", "env"):
        (programs / name).symlink_to(str(shutil.which(name)))
    [line] = said(run("make", "run", cwd=project, env={"PATH": str(programs)}))
    assert line.startswith("Python 3.11 or newer is needed")


@pytest.mark.slow
def test_a_missing_network_is_one_line(tmp_path: Path) -> None:
    """An environment with pip is made first, which takes 3 s."""
    project = copy_project(tmp_path / "clone")
    nowhere = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": "http://127.0.0.1:1/", "PIP_NO_CACHE_DIR": "1"}
    [line] = said(run("make", "run", cwd=project, env=environment(**nowhere)))
    assert line.startswith("The packages could not be installed")


def test_make_help_names_the_targets(project: Path) -> None:
    helped = run("make", cwd=project, env=environment())
    targets = {line.split()[1] for line in helped.stdout.splitlines()}
    tests = {"test", "test-slow", "test-faults", "test-client", "test-e2e", "test-example"}
    assert targets == tests | {"help", "run", "bench", "bench-growth", "lint", "audit", "lock"}


def test_a_missing_postgresql_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, nothing in {"PLACES": (), "find_spec": lambda _: None}.items():
        monkeypatch.setattr(postgres, name, nothing)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit, match=r"^There is no PostgreSQL: install it \(.*\), or set TEST_DATABASE_URL$"):
        postgres.binaries()


def test_a_postgresql_that_does_not_start_is_told_in_its_words(tmp_path: Path) -> None:
    programs = tmp_path / "installed" / "bin"
    programs.mkdir(parents=True)
    for name in ("pg_ctl", "initdb", "postgres"):
        (programs / name).write_text("#!/bin/sh\n[ ${0##*/} != postgres ] || { echo no such locale; exit 1; }\n")
        (programs / name).chmod(0o755)
    env = environment()
    env["PATH"] = f"{programs}:{env['PATH']}"
    tried = run(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", __file__, cwd=ROOT, env=env)
    assert tried.stderr.split("\n\n") == [
        "no such locale",
        "ERROR: PostgreSQL does not start; its messages stand above",
        "",
    ]


@pytest.mark.parametrize(
    ("ci", "told", "outcome"),
    [("", ["1 skipped: install make to run these tests"], "2 skipped"), ("true", [], "2 errors")],
)
def test_what_is_skipped_says_once_what_to_install_and_fails_in_ci(ci: str, told: list[str], outcome: str) -> None:
    without_programs = {"PATH": "", "CI": ci, "TEST_DATABASE_URL": os.environ["TODO_TEST_SERVER"]}
    command = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", "readme or help", __file__)
    *lines, end = run(*command, cwd=ROOT, env=environment() | without_programs).stdout.splitlines()
    assert [line for line in lines if line.endswith("skipped: install make to run these tests")] == told
    assert outcome in end
