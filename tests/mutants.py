"""Break `todo_api` in thousands of small ways, and list each that no test notices: mutmut, as setup.cfg says."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import mkdtemp

from mutmut.__main__ import cli
from mutmut.state import state
from sqlalchemy import make_url

from tests import postgres
from tests.databases import engine_of
from tests.tokens import SECRET

SURVIVED, UNTESTED = 0, 33  # mutmut's
AGAIN = ("-x", "-q", "-p", "no:randomly", "-p", "no:cacheprovider")
AGAIN_SECONDS = 300
# Whose tests have other names than theirs, or are several.
TESTS = {
    "__init__": ("config", "errors"),
    "extensions": ("models", "lists"),
    "database": ("lost_connections", "pool", "watchdog", "errors"),
    "logs": ("logs", "gunicorn"),
    "metrics": ("metrics",),
    "observability": ("errors", "logs", "cors"),
    "operations": ("openapi", "docs"),
    "ownership": ("tasks", "lists", "retries", "conditional", "isolation"),
    "paging": ("lists",),
    "reports": ("logs", "metrics", "gunicorn"),
    "schemas": ("bodies", "lists", "openapi"),
    "tasks": ("tasks", "lists", "errors"),
    "worker": ("worker", "gunicorn"),
}


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


def verdicts() -> dict[str, int | None]:
    """Return the exit code of the tests for each mutant."""
    found: dict[str, int | None] = {}
    for file in sorted(Path("mutants/todo_api").glob("*.meta")):
        found |= json.loads(file.read_text())["exit_code_by_key"]
    return found


def survives_again(mutant: str) -> bool:
    """Try the tests of its module in a process of its own, and in those it starts.

    In mutmut's own processes modules have been imported, and what is made once for all tests was made whole.
    """
    module = mutant.split(".")[1]
    files = [f"tests/test_{name}.py" for name in TESTS.get(module, (module,))]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *AGAIN, *files],
            cwd="mutants",
            env={**os.environ, "MUTANT_UNDER_TEST": mutant},
            capture_output=True,
            timeout=AGAIN_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def report() -> None:
    exits = verdicts()
    again = [mutant for mutant, code in exits.items() if code in (SURVIVED, UNTESTED)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        survivors = [mutant for mutant, lives in zip(again, pool.map(survives_again, again), strict=True) if lives]
    for mutant in survivors:
        subprocess.run([sys.executable, "-m", "mutmut", "show", mutant], check=True)
    killed = len(exits) - len(survivors)
    print(f"{killed} of {len(exits)} killed, {killed / len(exits):.1%}; {len(survivors)} survive")


def main() -> None:
    state()._stats = Functions()
    folder = mkdtemp(prefix="todo-mutants-")
    with postgres.server(folder) as url:
        prepare(url, Path(folder))
        cli(["run", "--max-children", str(os.cpu_count())], standalone_mode=False)
        report()


if __name__ == "__main__":
    main()
