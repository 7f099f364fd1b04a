"""Break `todo_api` in thousands of small ways, and list each that no test notices: mutmut, as setup.cfg says."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

from mutmut.__main__ import cli
from mutmut.state import state
from sqlalchemy import make_url

from tests import postgres
from tests.databases import engine_of
from tests.tokens import SECRET


class Functions(set[str]):
    """What mutmut walks through while threads of the service add to it."""

    def __iter__(self) -> Iterator[str]:
        return iter(frozenset(self))


def prepare(server: str, folder: Path) -> None:
    """Set the environment of all runs of the tests: one server, and databases to copy, which halves their time."""
    template = make_url(server).set(database="todo_mutants").render_as_string(hide_password=False)
    with engine_of(server, isolation_level="AUTOCOMMIT") as engine, engine.connect() as connection:
        connection.exec_driver_sql("CREATE DATABASE todo_mutants")
    for url in (template, f"sqlite:///{folder / 'todo.db'}"):
        settings = {"ENVIRONMENT": "development", "DATABASE_URL": url, "BETTER_AUTH_SECRET": SECRET}
        subprocess.run([sys.executable, "-m", "flask", "db", "upgrade"], env={**os.environ, **settings}, check=True)
    os.environ["TODO_TEST_SERVER"] = server
    os.environ["TODO_TEST_TEMPLATE"] = template
    os.environ["TODO_TEST_SQLITE"] = str(folder / "todo.db")
    os.environ["PYTEST_DEBUG_TEMPROOT"] = str(folder)


def main(arguments: list[str]) -> None:
    state()._stats = Functions()
    folder = mkdtemp(prefix="todo-mutants-")
    with postgres.server(folder) as url:
        prepare(url, Path(folder))
        cli(arguments)


if __name__ == "__main__":
    main(sys.argv[1:] or ["run"])
