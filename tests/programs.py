"""Real programs in a copy of the project: gunicorn, flask, make."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", ".env", "instance", ".*_cache", "__pycache__", ".hypothesis", ".coverage*"
)


def copy_project(target: Path) -> Path:
    """Copy the project as a fresh clone has it, with the times of its files."""
    shutil.copytree(ROOT, target, ignore=LEFT_OUT, dirs_exist_ok=True)
    return target


def environment(**settings: str) -> dict[str, str]:
    """An environment with these settings and nothing else of the caller's but where programs are."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "HOME": os.environ.get("HOME", "/"), "LANG": os.environ.get("LANG", "C.UTF-8"), **settings}


def run(*command: str, cwd: Path, env: Mapping[str, str], **more: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, cwd=cwd, env=env, input=more.get("input", ""), text=True, capture_output=True, timeout=120, check=False
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
        if self.process.poll() is None:
            os.killpg(self.process.pid, how)
        self.process.wait(30)
        self._reader.join()
        assert self.process.stdout
        self.process.stdout.close()


@contextmanager
def running(*command: str, cwd: Path, env: Mapping[str, str]) -> Iterator[Program]:
    """Run a program in a process group of its own until the block ends."""
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=env,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    program = Program(process)
    try:
        yield program
    finally:
        program.stop()
