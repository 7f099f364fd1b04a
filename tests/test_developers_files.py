"""No file that a developer keeps (`.env`, `.flaskenv`, `--env-file`) turns an operator's shell into development."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from flask.cli import FlaskGroup

from tests.support.programs import ROOT, copy_project, environment, run, running
from todo_api import config

URL = "postgresql://todo:pa55word@db.example.com:5432/todo"
OTHER = "postgresql://todo:pa55word@other.example.com:5432/todo"
DEVELOPMENT = {"ENVIRONMENT": "development"}
SAYS_DEVELOPMENT = "ENVIRONMENT=development\n"
Variables = dict[str, str]
Command = Callable[..., tuple[Variables, Variables]]


@pytest.fixture
def flask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a flask command in a shell with these variables; return its settings and the remaining environment."""

    def command(line: str, shell: Variables, linux: bool = True) -> tuple[Variables, Variables]:
        counted: Variables = {}

        def create_app() -> Flask:
            counted.update(config.environment())
            return Flask("probe")

        initial = tmp_path / "initial"
        initial.write_text("\0".join(f"{name}={value}" for name, value in shell.items()))
        with monkeypatch.context() as patch:
            patch.setattr(os, "environ", {**shell})
            patch.setattr(sys, "argv", ["flask", *line.split()])
            patch.setattr(config, "INITIAL_ENVIRONMENT", initial if linux else tmp_path / "missing")
            FlaskGroup(create_app=create_app).main(line.split(), standalone_mode=False)
            left = dict(os.environ)
        return {name: value for name, value in counted.items() if not name.startswith("FLASK")}, left

    monkeypatch.chdir(tmp_path)
    return command


@pytest.mark.parametrize(
    ("shell", "file", "counted"),
    [
        ({}, SAYS_DEVELOPMENT, DEVELOPMENT),
        ({"BETTER_AUTH_URL": "https://a.example"}, SAYS_DEVELOPMENT, {"BETTER_AUTH_URL": "https://a.example"}),
        ({"JWKS_URL": "https://a.example/jwks"}, SAYS_DEVELOPMENT, {"JWKS_URL": "https://a.example/jwks"}),
        (
            {"LOG_LEVEL": "DEBUG"},
            f"{SAYS_DEVELOPMENT}DATABASE_URL={URL}",
            {**DEVELOPMENT, "DATABASE_URL": URL, "LOG_LEVEL": "DEBUG"},
        ),
        (
            {**DEVELOPMENT, "DATABASE_URL": URL},
            f"{SAYS_DEVELOPMENT}DATABASE_URL={OTHER}\nLOG_LEVEL=DEBUG",
            {**DEVELOPMENT, "DATABASE_URL": URL, "LOG_LEVEL": "DEBUG"},
        ),
        ({"ENVIRONMENT": "staging"}, f"DATABASE_URL={URL}", {"ENVIRONMENT": "staging"}),
        *(({name: "x"}, SAYS_DEVELOPMENT, {name: "x"}) for name in sorted(config.OPERATOR_CHOICES)),
        ({"DATABASE_URL": URL}, f"{SAYS_DEVELOPMENT}DATABASE_URL={URL}", {"DATABASE_URL": URL}),
        ({"FLASK_RUN_FROM_CLI": "true", "DATABASE_URL": URL}, SAYS_DEVELOPMENT, {"DATABASE_URL": URL}),
        ({"FLASK_SKIP_DOTENV": "1"}, SAYS_DEVELOPMENT, {}),
    ],
)
def test_a_developers_file_is_read_unless_the_shell_is_an_operators(
    tmp_path: Path, flask: Command, shell: Variables, file: str, counted: Variables
) -> None:
    (tmp_path / ".env").write_text(file)
    assert flask("routes", shell)[0] == counted


def test_without_proc_a_file_cannot_turn_an_operators_shell_into_development(tmp_path: Path, flask: Command) -> None:
    (tmp_path / ".env").write_text(f"{SAYS_DEVELOPMENT}DATABASE_URL={OTHER}")
    assert flask("routes", {"DATABASE_URL": URL}, linux=False)[0] == {"DATABASE_URL": URL}
    assert flask("routes", {}, linux=False)[0] == {**DEVELOPMENT, "DATABASE_URL": OTHER}


def test_files_of_parent_folders_and_flaskenv_are_read_too(
    tmp_path: Path, flask: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = tmp_path / "below"
    below.mkdir()
    monkeypatch.chdir(below)
    (tmp_path / ".env").write_text(SAYS_DEVELOPMENT)
    assert flask("routes", {"DATABASE_URL": URL})[0] == {"DATABASE_URL": URL}
    (tmp_path / ".env").rename(below / ".flaskenv")
    assert flask("routes", {"DATABASE_URL": URL})[0] == {"DATABASE_URL": URL}
    assert flask("routes", {})[0] == DEVELOPMENT


@pytest.mark.parametrize("default", ["", SAYS_DEVELOPMENT])
def test_a_named_file_overrides_the_default_file_but_is_no_operators_shell(
    tmp_path: Path, flask: Command, default: str
) -> None:
    (tmp_path / ".env").write_text(default)
    named = tmp_path / "named"
    named.write_text(f"{SAYS_DEVELOPMENT}DATABASE_URL={OTHER}")
    for line, shell in [("--env-file named routes", {}), ("routes", {"FLASK_ENV_FILE": "named"})]:
        assert flask(line, shell)[0] == {**DEVELOPMENT, "DATABASE_URL": OTHER}
        assert flask(line, {**shell, "DATABASE_URL": URL})[0] == {"DATABASE_URL": URL}
    named.write_text(f"DATABASE_URL={OTHER}")
    assert flask("-e named routes", {})[0] == {"DATABASE_URL": OTHER}


def test_a_child_process_does_not_inherit_the_variables_of_the_file(tmp_path: Path, flask: Command) -> None:
    (tmp_path / ".env").write_text(f"{SAYS_DEVELOPMENT}FLASK_DEBUG=1\nPGPASSFILE=kept")
    _, left = flask("routes", {"DATABASE_URL": URL})
    assert left == {"DATABASE_URL": URL, "FLASK_RUN_FROM_CLI": "true"}
    counted, left = flask("routes", {})
    assert left.items() >= {"FLASK_DEBUG": "1", "PGPASSFILE": "kept"}.items()
    assert flask("routes", left)[0] == counted
    assert "ENVIRONMENT" not in flask("routes", {**left, "DATABASE_URL": URL})[0]


PROBE = f"""
import json, sys
sys.path.insert(0, {str(ROOT)!r})
from flask import Flask
from todo_api import config
app = Flask("probe")
print(json.dumps({{name: value for name, value in config.environment().items() if name in config.OPERATOR_CHOICES}}))
"""


def test_a_real_process_and_its_reloader_recognize_their_shell(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"{SAYS_DEVELOPMENT}DATABASE_URL={URL}")
    (tmp_path / "probe.py").write_text(PROBE)
    command = (sys.executable, "-u", "-m", "flask", "--app", "probe", "run", "--debug", "--port", "0")
    env = environment(FLASK_RUN_FROM_CLI="true", DATABASE_URL=URL)
    with running(*command, cwd=tmp_path, env=env) as program:
        program.wait_for("Debugger is active")
        found = [json.loads(line) for line in program.output.splitlines() if line.startswith("{")]
    assert found == [{"DATABASE_URL": URL}] * 2


def test_without_the_flask_command_no_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text(SAYS_DEVELOPMENT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", {"DATABASE_URL": URL, "ENVIRONMENT": "staging"})  # as by gunicorn --env
    assert config.environment() == {"DATABASE_URL": URL, "ENVIRONMENT": "staging"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with a developer's `.env`."""
    copy = copy_project(tmp_path_factory.mktemp("project"))
    (copy / ".env").write_text((copy / ".env.example").read_text(encoding="utf-8"), encoding="utf-8")
    return copy


@pytest.mark.parametrize("command", ["token alice", "db upgrade"])
def test_an_operators_command_requires_the_operators_settings(project: Path, command: str) -> None:
    env = environment(FLASK_RUN_FROM_CLI="true", DATABASE_URL=URL)
    ended = run(sys.executable, "-m", "flask", *command.split(), cwd=project, env=env)
    assert ended.returncode not in (0, None)
    assert ended.stdout == ""
    [line] = ended.stderr.splitlines()
    assert line.startswith("todo_api: BETTER_AUTH_SECRET is required")
    assert not (project / "instance" / "todo.db").exists()


def test_one_sqlite_url_is_one_file_for_all_commands_from_any_folder(project: Path, tmp_path: Path) -> None:
    env = environment(ENVIRONMENT="development", DATABASE_URL="sqlite:///dev.db")
    flask = (sys.executable, "-m", "flask", "--app", str(project / "wsgi.py"))
    assert run(*flask, "db", "upgrade", cwd=tmp_path, env=env).returncode == 0
    ended = run(*flask, "db", "check", cwd=project, env=env)
    assert ended.returncode == 0, ended.stderr
    assert [file.name for folder in (project, tmp_path) for file in folder.rglob("*.db")] == ["dev.db"]
    assert (project / "instance" / "dev.db").exists()
