"""The service that faults are injected into, and the table of results."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from uuid import uuid4

import pytest

from tests.support import postgres
from tests.support.load import ROWS, THREADS, WORKERS, Stack, needs_proc, query
from tests.support.programs import GUNICORN, ROOT, Server, production_environment, run, running

Start = Callable[..., Any]
TABLE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
HEAD = """| what happened | requests | 503: reads, creations | 503: other writes | cut | normal again after |
|---|---|---|---|---|---|
"""
SOAK: list[tuple[object, ...]] = []
SOAK_HEAD = """| requests | a worker, MB | the other, MB | threads of each |
|---|---|---|---|
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("faults")
            item.add_marker(needs_proc)


@pytest.fixture(scope="session")
def database() -> Iterator[postgres.ControlledServer]:
    with postgres.controlled_server(mkdtemp(prefix="todo-faults-")) as database:
        yield database


@pytest.fixture
def service(database: postgres.ControlledServer) -> Start:
    """Start the service on an empty database, with settings and in a tablespace."""

    @contextmanager
    def start(tablespace: str = "pg_default", **settings: str) -> Iterator[Stack]:
        name = f"faults_{uuid4().hex[:8]}"
        query(database.url, f"CREATE DATABASE {name} TABLESPACE {tablespace}")
        with started(database, database.url.replace("/postgres?", f"/{name}?"), **settings) as stack:
            yield stack
        query(database.url, f"DROP DATABASE {name} WITH (FORCE)")

    return start


@contextmanager
def started(database: postgres.ControlledServer, url: str, **settings: str) -> Iterator[Stack]:
    """Migrate an empty database, and start the service on it."""
    size = {"WEB_CONCURRENCY": str(WORKERS), "WEB_THREADS": str(THREADS)}
    env = production_environment(url, **{**size, **settings})
    upgraded = run(sys.executable, "-m", "flask", "db", "upgrade", cwd=ROOT, env=env)
    assert upgraded.returncode == 0, upgraded.stderr
    with running(*GUNICORN, cwd=ROOT, env=env) as program:
        stack = Stack(Server(program), database, env)
        stack.wait()
        try:
            yield stack
        finally:
            print(program.output)
        assert "Traceback" not in program.output, program.output


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Show the tables; with WRITE=yes update the one of faults in the documentation."""
    faults = [(*row[:-1], f"{row.seconds:.2f} s") for row in ROWS]
    for head, rows in ((HEAD, faults), (SOAK_HEAD, SOAK)):
        if rows:
            terminalreporter.write_line(head + as_rows(rows))
    if faults and os.environ.get("WRITE") == "yes":
        before, _, rest = TABLE.read_text().partition(BEGIN)
        TABLE.write_text(f"{before}{BEGIN}\n{HEAD}{as_rows(faults)}{END}{rest.partition(END)[2]}")


def as_rows(rows: Sequence[tuple[object, ...]]) -> str:
    return "".join(f"| {' | '.join(map(str, row))} |\n" for row in rows)
