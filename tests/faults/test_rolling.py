"""A release replaces the one before, and is taken back, one instance at a time behind nginx, while clients write.

For every migration: the code before it is taken from the history of the project.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support import nginx
from tests.support.load import Load, query
from tests.support.postgres import ControlledServer, children
from tests.support.programs import GUNICORN, ROOT, Server, production_environment, run, running
from tests.support.releases import CODE_BEFORE, MISSING, code_of, has_history
from tests.support.threads import wait_until

CLIENTS = 4  # more would only slow the start of an instance on a small machine
FIELDS = ("id", "user_id", "title", "description", "is_completed", "created_at", "updated_at")  # of every release
WRONG_COUNTS = "SELECT count(*) FROM users WHERE task_count <> (SELECT count(*) FROM tasks WHERE user_id = users.id)"
SOCKET = "server unix:/run/todo-api/gunicorn.sock"

pytestmark = [
    pytest.mark.skipif(not nginx.PROGRAM, reason=nginx.MISSING),
    pytest.mark.skipif(not has_history(), reason=MISSING),
]


class Front:
    """nginx and the instances behind it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.list = folder, folder / "instances"

    @contextmanager
    def serving(self, *instances: Server) -> Iterator[nginx.Nginx]:
        self.write(instances)
        upstream = (f"{SOCKET};", f"{SOCKET} down;\n    include {self.list};")
        fast = [("rate=20r/s", "rate=9000r/s"), ("rate=100r/s", "rate=9000r/s")]
        with nginx.nginx(self.folder, upstream, *fast) as running_nginx:
            yield running_nginx

    def write(self, instances: tuple[Server, ...]) -> None:
        self.list.write_text("".join(f"server 127.0.0.1:{one.port};\n" for one in instances))

    def use(self, *instances: Server) -> None:
        """Send requests to these instances only, as `nginx -s reload` does; wait until the others have none."""
        self.write(instances)
        nginx_process = int((self.folder / "nginx.pid").read_text())
        old = set(children(nginx_process))
        os.kill(nginx_process, signal.SIGHUP)
        wait_until(lambda: (now := children(nginx_process)) and not old & set(now))


@pytest.fixture
def url(database: ControlledServer) -> Iterator[str]:
    name = f"rolling_{uuid4().hex[:8]}"
    query(database.url, f"CREATE DATABASE {name}")
    yield database.url.replace("/postgres?", f"/{name}?")
    query(database.url, f"DROP DATABASE {name} WITH (FORCE)")


def flask(env: dict[str, str], code: Path, *command: str) -> None:
    done = run(sys.executable, "-m", "flask", "--app", "wsgi", *command, cwd=code, env=env)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("commit", CODE_BEFORE.values(), ids=["-".join(group) for group in CODE_BEFORE])
def test_old_and_new_code_serve_side_by_side_and_the_way_back(url: str, tmp_path: Path, commit: str) -> None:
    env = production_environment(url, JWT_ISSUER="", WEB_CONCURRENCY="1")
    with code_of(commit) as before, ExitStack() as programs:

        def start(code: Path) -> Server:
            started.append(Server(programs.enter_context(running(*GUNICORN, cwd=code, env=env))))
            return started[-1]

        started: list[Server] = []
        flask(env, before, "db", "upgrade")
        steps = steps_of(before)
        instances = [start(before), start(before)]
        front = Front(tmp_path)
        port = programs.enter_context(front.serving(*instances)).port
        load = Load(port, lambda sql, *values: query(url, sql, *values), CLIENTS, steps, FIELDS)
        try:
            load.wait_for_recovery(0)
            flask(env, ROOT, "db", "upgrade")
            for number, code in ((0, ROOT), (1, ROOT), (0, before)):
                load.wait_for_recovery(0)
                left, instances[number] = instances[number], start(code)
                front.use(*instances)
                left.program.stop()
            load.wait_for_recovery(0)
            load.stop()
        finally:
            load.stopping.set()
            print(*(one.program.output for one in started), sep="\n")
        flask(env, ROOT, "recount")
    load.check_tables()
    assert load.unavailable() == 0, load.failures()
    assert load.applied_but_cut == 0
    assert query(url, WRONG_COUNTS) == [(0,)]


def steps_of(code: Path) -> tuple[str, ...]:
    """Return what a user does: bulk requests are as old as the second release."""
    steps = ("create", "read", "change", "create", "list", "remove")
    return (*steps, "sweep") if (code / "todo_api" / "tasks").exists() else steps
