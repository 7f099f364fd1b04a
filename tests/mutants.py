"""Break `todo_api` in thousands of small ways, and list each that no test notices: mutmut, as setup.cfg says.

What was killed is kept in `mutants/`, for runs that come later or after an end in the middle; they try what survived,
what has changed in `todo_api`, and all of `conditional`. For a figure begin without that folder.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import mkdtemp

from sqlalchemy import make_url

from tests.support import postgres
from tests.support.databases import engine_of
from tests.support.tokens import SECRET

STATS = Path("mutants/mutmut-stats.json")
MOST = 100  # tests tried first for a mutant: to find them by name takes as long as to run them
FAILED, TOO_LONG = 1, -24  # what pytest exits with, and mutmut's own code for tests that do not end (SIGXCPU)
KILLED = (FAILED, TOO_LONG)
AGAIN = ("-x", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "-m", "not slow and not faults and not e2e")
AGAIN_SECONDS = 300
# Whose tests have other names than theirs.
TESTS = {
    "todo_api": "config errors",
    "auth": "auth attacks token_memory keys config token_check",
    "database": "lost_connections pool watchdog errors health prepared",
    "docs": "docs openapi",
    "errors": "errors bodies auth logs",
    "extensions": "models lists tasks concurrency conditional",
    "health": "health lost_connections",
    "logs": "logs gunicorn",
    "models": "models migrations",
    "observability": "observability errors logs cors gunicorn",
    "openapi": "openapi typescript_client",
    "operations": "openapi docs typescript_client",
    "ownership": "tasks lists retries conditional isolation properties concurrency lost_connections",
    "paging": "lists",
    "prepared": "prepared errors lost_connections",
    "reports": "logs metrics gunicorn",
    "schemas": "bodies lists tasks openapi",
    "tasks": "tasks lists errors conditional bodies retries",
    "worker": "worker gunicorn",
}


def tests_of(name: str) -> tuple[str, ...]:
    """Return the files of tests for the module of a function or mutant."""
    module = name.split(".")[-2]
    return tuple(f"tests/test_{file}.py" for file in TESTS.get(module, module).split())


def prepare(server: str, folder: Path) -> None:
    """Set the environment of all runs of the tests: one server, and databases to copy, which halves their time."""
    template = make_url(server).set(database="todo_mutants").render_as_string(hide_password=False)
    with engine_of(server, isolation_level="AUTOCOMMIT") as engine, engine.connect() as connection:
        connection.exec_driver_sql("DROP DATABASE IF EXISTS todo_mutants WITH (FORCE)")
        connection.exec_driver_sql("CREATE DATABASE todo_mutants")
    for url in (template, f"sqlite:///{folder / 'todo.db'}"):
        settings = {"ENVIRONMENT": "development", "DATABASE_URL": url, "BETTER_AUTH_SECRET": SECRET}
        subprocess.run([sys.executable, "-m", "flask", "db", "upgrade"], env={**os.environ, **settings}, check=True)
    os.environ["TODO_TEST_SERVER"] = server
    os.environ["TODO_TEST_TEMPLATE"] = template
    os.environ["TODO_TEST_SQLITE"] = str(folder / "todo.db")
    os.environ["PYTEST_DEBUG_TEMPROOT"] = str(folder)


def mutmut(*arguments: str) -> None:
    children = ("--max-children", str(os.cpu_count()))
    subprocess.run([sys.executable, ".ci/mutate.py", "run", *children, *arguments], check=True)


def narrow() -> None:
    """Let mutmut try some of the tests of a function's own module, not all that came by it: most come by most."""
    stats = json.loads(STATS.read_text())
    functions = stats["tests_by_mangled_function_name"]
    for function, tests in functions.items():
        own = [test for test in tests if test.split("::")[0] in tests_of(function)]
        candidates = sorted(own or tests)
        functions[function] = random.Random(function).sample(candidates, min(MOST, len(candidates)))
    STATS.write_text(json.dumps(stats))


def outcome(files: tuple[str, ...], mutant: str = "") -> int:
    """Try all these tests in a process of their own, and in those it starts; return its exit code, or TOO_LONG.

    In mutmut's own processes modules have been imported, and what is made once for all tests was made whole.
    """
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
        return TOO_LONG
    return done.returncode


def try_again(pool: ThreadPoolExecutor, alive: dict[str, Path]) -> Iterator[tuple[str, int]]:
    """Yield these mutants, each with its outcome, after the tests have passed without one."""
    sets = list({tests_of(mutant) for mutant in alive})
    for files, code in zip(sets, pool.map(outcome, sets), strict=True):
        if code != 0:
            sys.exit(f"these fail without a mutant: {' '.join(files)}")
    yield from zip(alive, pool.map(lambda mutant: outcome(tests_of(mutant), mutant), alive), strict=True)


def keep(file: Path, mutant: str, code: int) -> None:
    """Note in mutmut's file what killed a mutant, whole or not at all."""
    noted = json.loads(file.read_text())
    noted["exit_code_by_key"][mutant] = code
    new = file.with_suffix(".new")
    new.write_text(json.dumps(noted))
    new.replace(file)


def report() -> None:
    """Try again what survived, keep what does not, and show what does."""
    exits = {
        mutant: (file, code)
        for file in sorted(Path("mutants/todo_api").glob("*.meta"))
        for mutant, code in json.loads(file.read_text())["exit_code_by_key"].items()
    }
    alive = {mutant: file for mutant, (file, code) in exits.items() if code not in KILLED}
    # mutmut makes files of links, which its programs do not outlive: the tests install them again.
    shutil.rmtree("mutants/clients/typescript/node_modules", ignore_errors=True)
    survivors = 0
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        for mutant, code in try_again(pool, alive):
            if code in KILLED:
                keep(alive[mutant], mutant, code)
            else:
                survivors += 1
                subprocess.run([sys.executable, "-m", "mutmut", "show", mutant], check=True)
    finally:
        pool.shutdown(cancel_futures=True)
    killed = len(exits) - survivors
    print(f"{killed} of {len(exits)} killed, {killed / len(exits):.1%}; {survivors} survive")


def main() -> None:
    folder = mkdtemp(prefix="todo-mutants-")
    with postgres.server(folder) as url:
        prepare(url, Path(folder))
        mutmut("todo_api.conditional.*")  # and which tests call which functions
        narrow()
        mutmut()
        report()


if __name__ == "__main__":
    main()
