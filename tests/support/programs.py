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
from itertools import cycle
from pathlib import Path
from random import sample
from typing import Any

from tests.support.threads import wait_until
from tests.support.tokens import SECRET, lines_with_secrets, token

ROOT = Path(__file__).parents[2]
GUNICORN = (sys.executable, "-m", "gunicorn", "wsgi:app", "--bind", "127.0.0.1:0")
NOT_COPIED = shutil.ignore_patterns(
    *(".git", ".venv", ".env", "instance", ".*_cache", "__pycache__", ".hypothesis", ".coverage*"),
    *("node_modules", "dist", ".next"),
)


# Below those that the system gives to others, so that nobody takes one before a server does. Processes share none.
FIRST_PORT = 20_000 + 500 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
PORTS = cycle(sample(range(FIRST_PORT, FIRST_PORT + 500), 500))


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nothing listens."""
    while True:
        port = next(PORTS)
        with suppress(OSError), socket.socket() as free:
            free.bind(("127.0.0.1", port))
            return port


def threads_of(process: int) -> int:
    """Return the number of threads of a process, from Linux's /proc."""
    return len(list(Path(f"/proc/{process}/task").iterdir()))


def copy_project(target: Path) -> Path:
    """Copy the project without generated files, as in a fresh clone; keep modification times."""
    shutil.copytree(ROOT, target, ignore=NOT_COPIED, dirs_exist_ok=True)
    return target


def environment(**settings: str) -> dict[str, str]:
    """Return an environment with these settings and, of this process's own, only PATH, HOME and LANG."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "HOME": os.environ.get("HOME", "/"), "LANG": os.environ.get("LANG", "C.UTF-8"), **settings}


def production_environment(url: str, **settings: str) -> dict[str, str]:
    """Return the environment of a production service on that database."""
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
        """Wait for a line that contains `text`; return the first one."""
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
        """End the program and its child processes."""
        deadline = time.monotonic() + 45
        while self.process.poll() is None:
            os.killpg(self.process.pid, how)
            with suppress(subprocess.TimeoutExpired):  # a worker that is starting ignores the signal: repeat it
                self.process.wait(1)
            assert time.monotonic() < deadline, "the program does not end"
        self._reader.join()
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.stdout.close()
        assert lines_with_secrets(self.output) == []


@contextmanager
def running(*command: str, cwd: Path, env: Mapping[str, str]) -> Iterator[Program]:
    """Run a program in its own process group until the block ends."""
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
        """The process IDs of all workers started so far, in order."""
        return [int(pid) for pid in re.findall(r"Booting worker with pid: (\d+)", self.program.output)]

    def wait_for_workers(self, number: int, threads: int = 4) -> None:
        """Wait until so many workers have started their threads."""
        wait_until(lambda: len(self.workers) == number)
        wait_until(lambda: all(threads_of(pid) > threads for pid in self.workers))

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Send a request on a new connection; return the status and the parsed body."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            sent = {"Authorization": f"Bearer {token()}", "Content-Type": "application/json"}
            sent |= {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, sent, encode_chunked=sent.get("Transfer-Encoding") == "chunked")
            response = connection.getresponse()
            raw = response.read()
            return response.status, json.loads(raw) if raw else None

    def raw(self, text: str) -> str:
        """Send these bytes; return the response as text."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall(text.encode())
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()


@contextmanager
def serving(env: Mapping[str, str], *options: str) -> Iterator[Server]:
    """Run gunicorn on a migrated database until the block ends."""
    with running(*GUNICORN, *options, cwd=ROOT, env=env) as program:
        yield Server(program)
