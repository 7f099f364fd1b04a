"""The systemd units, the image and the Compose file, tested without a running systemd or Docker."""

import json
import os
import re
import shlex
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from compose_spec import PyOptions

from tests.support.nginx import DEPLOY
from tests.support.programs import ROOT, copy_project, environment, free_port, production_environment, run, running
from todo_api.config import MAY_COME_FROM_A_FILE

needs_systemd = pytest.mark.skipif(
    not (shutil.which("systemd-analyze") and shutil.which("systemd-socket-activate"))
    or not (os.getuid() == 0 or Path("/run/systemd").exists()),  # newer versions create that folder, or fail
    reason="There is no systemd: install it (Debian, Ubuntu: apt install systemd); where it does not run, be root",
)


# --- systemd ---


@pytest.fixture
def units(tmp_path: Path) -> tuple[Path, Path]:
    """The units, with the path of the project on this machine."""
    project = copy_project(tmp_path / "todo-api")
    (project / ".venv").symlink_to(sys.prefix)
    for kind in ("socket", "service"):
        text = (DEPLOY / f"todo-api.{kind}").read_text(encoding="utf-8")
        (tmp_path / f"todo-api.{kind}").write_text(text.replace("/opt/todo-api", str(project)))
    return tmp_path / "todo-api.socket", tmp_path / "todo-api.service"


@needs_systemd
def test_systemd_accepts_the_units(units: tuple[Path, Path], tmp_path: Path) -> None:
    verified = run("systemd-analyze", "--man=no", "verify", *map(str, units), cwd=tmp_path, env=environment())
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")


@needs_systemd
def test_the_exposure_of_the_service_is_low(units: tuple[Path, Path], tmp_path: Path) -> None:
    """The scale goes from 0 to 10; systemd calls less than 2 OK."""
    offline = ("systemd-analyze", "security", "--offline=yes", "--threshold=15", str(units[1]))
    judged = run(*offline, cwd=tmp_path, env=environment())
    assert judged.returncode == 0, judged.stdout


@needs_systemd
def test_the_service_uses_the_socket_of_systemd_and_reports_when_it_is_ready(
    units: tuple[Path, Path], tmp_path: Path, fresh_database: Callable[[str], str]
) -> None:
    unit = units[1].read_text(encoding="utf-8")
    [command] = re.findall("^ExecStart=(.*)$", unit, re.MULTILINE)
    [folder] = re.findall("^WorkingDirectory=(.*)$", unit, re.MULTILINE)
    address, ready = tmp_path / "app.sock", tmp_path / "notify"
    env = production_environment(fresh_database("systemd"), NOTIFY_SOCKET=str(ready))
    settings = [word for name, value in env.items() for word in ("-E", f"{name}={value}")]
    activate = ("systemd-socket-activate", "-l", str(address), *settings, *shlex.split(command))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(ready))
        notified.settimeout(30)
        with running(*activate, cwd=Path(folder), env=env) as program:
            program.wait_for("Listening on")
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(30)
                client.connect(str(address))
                client.sendall(b"GET /health/live HTTP/1.0\r\n\r\n")
                answer = b"".join(iter(lambda: client.recv(4096), b""))
            assert answer.startswith(b"HTTP/1.0 200 ")
            assert b"READY=1" in notified.recv(4096)
            program.process.terminate()
            assert program.process.wait(30) == 0
    assert address.exists()  # it belongs to systemd and remains for the next start


# --- Docker ---


def instructions(file: Path) -> list[tuple[str, str]]:
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in joined.splitlines())]


class Stage:
    """A folder that stands for the root of an image. Its /usr/local is a new environment with pip, as in python:3."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root
        self.settings: dict[str, str] = {}
        self.env = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        self.env |= environment() | {"PATH": f"{root}/usr/local/bin:/usr/bin:/bin", "PIP_REQUIRE_VIRTUALENV": "1"}
        made = run(sys.executable, "-m", "venv", str(root / "usr/local"), cwd=root.parent, env=environment())
        assert made.returncode == 0, made.stderr

    def run(self, command: str) -> None:
        done = run("sh", "-euc", re.sub(r"^--mount=\S+ ", "", command), cwd=self.folder, env=self.env)
        if "NewConnectionError" in done.stderr or "NameResolutionError" in done.stderr:
            pytest.skip("connect to a network: this test installs packages as an image does")
        assert done.returncode == 0, done.stderr

    def copy(self, source: Path, names: list[str], target: str) -> None:
        for name in names:
            found = source / name.lstrip("/")
            if found.is_dir():
                shutil.copytree(found, self.folder / target, symlinks=True)
            else:
                shutil.copy(found, self.folder / target)

    def set(self, text: str) -> None:
        for name, value in (word.split("=", 1) for word in text.split()):
            self.env[name] = value.replace("/app", str(self.root / "app")).replace("$PATH", self.env["PATH"])


def build(file: Path, context: Path, scratch: Path) -> Stage:
    """Run the steps of a Dockerfile, each stage in its own folder; return the last folder."""
    stages: dict[str, Stage] = {}
    stage = None
    for name, rest in instructions(file):
        if name == "FROM":
            assert re.fullmatch(r"python:3\.\d+-slim( AS \w+)?", rest)
            label = rest.partition(" AS ")[2] or "image"
            stage = stages[label] = Stage(scratch / label)
            continue
        assert stage
        if name == "WORKDIR":
            stage.folder = stage.root / rest.lstrip("/")
            stage.folder.mkdir(parents=True)
        elif name == "COPY":
            *names, target = rest.split()
            source = stages[names.pop(0).removeprefix("--from=")].root if "--from=" in rest else context
            stage.copy(source, names, target)
        elif name == "RUN":
            stage.run(rest)
        elif name == "ENV":
            stage.set(rest)
        else:
            stage.settings[name] = rest
    assert stage
    return stage


@pytest.mark.slow
def test_the_steps_of_the_image_make_a_healthy_service(tmp_path: Path, fresh_database: Callable[[str], str]) -> None:
    image = build(DEPLOY / "Dockerfile", copy_project(tmp_path / "context"), tmp_path)
    assert {path.name for path in image.folder.iterdir()} == {
        ".venv",
        "__pycache__",
        "gunicorn.conf.py",
        "migrations",
        "todo_api",
        "wsgi.py",
    }
    assert not [path for path in image.root.glob("**/site-packages/*") if path.name.startswith(("pip", "pytest"))]
    port = str(free_port())
    serve = json.loads(image.settings["CMD"].replace("8000", port))
    check = json.loads(image.settings["HEALTHCHECK"].partition(" CMD ")[2].replace("8000", port))
    env = production_environment(fresh_database("image")) | {"PATH": image.env["PATH"]}
    migrate = compose()["services"]["migrate"]["command"]
    upgraded = run(*program_of(image, migrate), cwd=image.folder, env=env)
    assert upgraded.returncode == 0, upgraded.stderr
    with running(*program_of(image, serve), cwd=image.folder, env=env) as program:
        program.wait_for("Booting worker")
        probes = (run(*program_of(image, check), cwd=image.folder, env=env) for _ in range(3))  # Docker retries too
        assert any(probe.returncode == 0 for probe in probes)
    assert run(*program_of(image, check), cwd=image.folder, env=env).returncode == 1


def program_of(image: Stage, command: list[str]) -> list[str]:
    """Find the program on the image's PATH, not on that of the tests."""
    return [str(shutil.which(command[0], path=image.env["PATH"])), *command[1:]]


def test_the_image_runs_unprivileged_and_contains_only_what_it_copies() -> None:
    steps = instructions(DEPLOY / "Dockerfile")
    assert [rest for name, rest in steps if name == "USER"] == ["10001:10001"]
    copied = {word for name, rest in steps if name == "COPY" and "--from" not in rest for word in rest.split()[:-1]}
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignored[0] == "*"
    assert {line.removeprefix("!") for line in ignored if line.startswith("!")} == copied
    assert all((ROOT / name).exists() for name in copied)


def test_the_linter_accepts_the_dockerfile(tmp_path: Path) -> None:
    linted = run(
        str(Path(sys.executable).with_name("hadolint")), str(DEPLOY / "Dockerfile"), cwd=tmp_path, env=environment()
    )
    assert (linted.returncode, linted.stdout + linted.stderr) == (0, "")


# --- Compose ---


def compose() -> dict[str, Any]:
    """The file as Compose reads it: with variables and merges resolved, and validated."""
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    text = re.sub(r"\$\{(\w+):-([^}]*)\}", r"\2", text)
    text = re.sub(r"\$\{(\w+):\?[^}]*\}", r"https://app.example.com", text)
    assert "${" not in text
    options = PyOptions(apply_merge=True)
    read = options.from_yaml(text)
    read.validate()
    return read.to_dict()


def test_the_compose_file_follows_the_specification() -> None:
    assert compose()["services"].keys() == {"database", "migrate", "api", "nginx"}


def test_the_api_waits_for_the_migration_and_nginx_for_the_api() -> None:
    services = compose()["services"]
    waits = {
        (name, other, how["condition"])
        for name, service in services.items()
        for other, how in service.get("depends_on", {}).items()
    }
    assert waits == {
        ("migrate", "database", "service_healthy"),
        ("api", "migrate", "service_completed_successfully"),
        ("nginx", "api", "service_healthy"),
    }
    assert services["migrate"]["restart"] == "no"


def test_the_health_of_nginx_is_that_of_the_whole_service() -> None:
    """Nothing waits for it: a database that is away must not keep nginx from starting."""
    services = compose()["services"]
    assert services["nginx"]["healthcheck"]["test"][-1] == "http://127.0.0.1/health"
    assert services["nginx"]["ports"] == ["80:80"]


def test_a_small_init_is_process_1_of_the_containers_of_the_api() -> None:
    """As process 1 itself, gunicorn ignores SIGTERM until it has set its handlers."""
    assert [name for name, service in compose()["services"].items() if service.get("init")] == ["migrate", "api"]


def test_secrets_come_from_files_and_only_nginx_is_reachable() -> None:
    read = compose()
    for name, service in read["services"].items():
        for variable, value in service["environment"].items():
            if str(value).startswith("/run/secrets/"):
                assert Path(value).name in service["secrets"]
                assert Path(value).name in read["secrets"]
                assert variable == "POSTGRES_PASSWORD_FILE" or variable.removesuffix("_FILE") in MAY_COME_FROM_A_FILE
            else:
                assert not re.search("SECRET|PASSWORD|DATABASE_URL", variable), variable
        assert bool(service.get("ports")) == (name == "nginx")
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert "deploy/secrets/" in ignored


def test_nginx_and_the_api_share_the_socket_and_the_origins() -> None:
    services = compose()["services"]
    assert services["api"]["environment"]["CORS_ORIGINS"] == services["nginx"]["environment"]["CORS_ORIGINS"]
    assert "server unix:/run/todo-api/gunicorn.sock;" in (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
    assert "unix:/run/todo-api/gunicorn.sock" in services["api"]["command"]
    for name in ("api", "nginx"):
        assert "socket:/run/todo-api" in map(str, services[name]["volumes"])


def test_the_nginx_image_and_the_script_make_the_same_of_the_template(tmp_path: Path) -> None:
    """The image runs envsubst for the variables of its environment."""
    if not shutil.which("envsubst"):
        pytest.skip("There is no envsubst: install it (Debian, Ubuntu: apt install gettext-base)")
    origins = "https://app.example.com,http://localhost:3000"
    (tmp_path / "settings.env").write_text(f"CORS_ORIGINS={origins}\n")
    by_script = run(str(DEPLOY / "cors-origins.sh"), "settings.env", cwd=tmp_path, env=environment())
    template = (DEPLOY / "cors.conf.template").read_text(encoding="utf-8")
    substitute = ("envsubst", "${CORS_ORIGINS} ${HOME} ${PATH}")
    by_image = run(*substitute, cwd=tmp_path, env=environment(CORS_ORIGINS=origins), input=template)
    assert by_script.stdout == by_image.stdout
    assert origins in by_image.stdout
