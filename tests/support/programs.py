"""Real programs in a copy of the project: gunicorn, flask, make."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.support.tokens import SECRET, indiscreet, token

ROOT = Path(__file__).parents[2]
GUNICORN = (sys.executable, "-m", "gunicorn", "wsgi:app", "--bind", "127.0.0.1:0")
LEFT_OUT = shutil.ignore_patterns(
    *(".git", ".venv", ".env", "instance", ".*_cache", "__pycache__", ".hypothesis", ".coverage*"),
    *("node_modules", "dist", ".next"),
)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def copy_project(target: Path) -> Path:
    """Copy the project as a fresh clone has it, with the times of its files."""
    shutil.copytree(ROOT, target, ignore=LEFT_OUT, dirs_exist_ok=True)
    return target


def environment(**settings: str) -> dict[str, str]:
    """An environment with these settings and nothing else of the caller's but where programs are."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "HOME": os.environ.get("HOME", "/"), "LANG": os.environ.get("LANG", "C.UTF-8"), **settings}


def in_production(url: str, **settings: str) -> dict[str, str]:
    """An environment of the service in production, on that database."""
    return environment(**{"ENVIRONMENT": "production", "DATABASE_URL": url, "BETTER_AUTH_SECRET": SECRET, **settings})


def run(
    *command: str, cwd: Path, env: Mapping[str, str], seconds: float = 120, **more: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command,
        cwd=cwd,
        env=env,
        input=more.get("input", ""),
        text=True,
        capture_output=True,
        timeout=seconds,
        check=False,
    )


class Program:
    """A running program and what it has printed so far."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        self.lines.extend(iter(self.process.stdout.readline, ""))

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def wait_for(self, text: str, seconds: float = 60) -> str:
        """Return the first line that holds `text`, once it is there."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            ended = self.process.poll() is not None
            if found := [line for line in list(self.lines) if text in line]:
                return found[0]
            if ended:
                self._reader.join()
                break
            time.sleep(0.02)
        raise AssertionError(f"{text!r} was not printed; this was:\n{self.output}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the program and all that it started."""
        deadline = time.monotonic() + 45
        while self.process.poll() is None:
            os.killpg(self.process.pid, how)
            with suppress(subprocess.TimeoutExpired):  # a worker of gunicorn misses the signal while it starts
                self.process.wait(1)
            assert time.monotonic() < deadline, "the program does not end"
        self._reader.join()
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.stdout.close()
        assert indiscreet(self.output) == []


@contextmanager
def running(*command: str, cwd: Path, env: Mapping[str, str]) -> Iterator[Program]:
    """Run a program in a process group of its own until the block ends."""
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=env,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    program = Program(process)
    try:
        yield program
    finally:
        program.stop()


class Server:
    """A running gunicorn and the requests sent to it."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.port = int(program.wait_for("Listening at: ").rpartition(" (")[0].rpartition(":")[2])

    @property
    def workers(self) -> list[int]:
        """The process ids of all workers that were ever started, in order."""
        return [int(pid) for pid in re.findall(r"Booting worker with pid: (\d+)", self.program.output)]

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Return the status and the parsed body of an answer, over a connection of its own."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            sent = {"Authorization": f"Bearer {token()}", "Content-Type": "application/json"}
            sent |= {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, sent, encode_chunked=sent.get("Transfer-Encoding") == "chunked")
            response = connection.getresponse()
            raw = response.read()
            return response.status, json.loads(raw) if raw else None

    def raw(self, text: str) -> str:
        """Return what the server answers to these bytes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall(text.encode())
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()


@contextmanager
def serving(env: Mapping[str, str], *options: str) -> Iterator[Server]:
    """Run gunicorn on a migrated database until the block ends."""
    with running(*GUNICORN, *options, cwd=ROOT, env=env) as program:
        yield Server(program)
