"""PgBouncer in transaction mode, between the application and the tests' PostgreSQL server.

With TEST_POOLER=yes the applications of the tests connect through it; the tests' own queries do not.
"""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import psycopg2
from psycopg2.extensions import parse_dsn
from sqlalchemy import make_url

from tests.support.databases import PATIENT
from tests.support.postgres import unprivileged
from tests.support.programs import free_port

WANTED = os.environ.get("TEST_POOLER") == "yes"
PORT = "TODO_TEST_POOLER"  # the variable that tells xdist's workers
POOL_SIZE = 10
LOGIN_RETRY = 1  # seconds until it tries again to reach a server
PROGRAM = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
MISSING = "There is no PgBouncer: install it (Debian, Ubuntu: apt install pgbouncer)"
CONFIGURATION = """[databases]
{databases}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
auth_user = postgres
admin_users = postgres
pool_mode = transaction
default_pool_size = {size}
max_client_conn = 1000
server_login_retry = {retry}
ignore_startup_parameters = extra_float_digits
"""


def database_line(url: str, name: str = "*") -> str:
    """Return the line that sends a database's clients to the server of `url`."""
    server = parse_dsn(url)
    return f"{name} = host={server['host']} port={server.get('port', 5432)}"


class Pooler:
    """A running PgBouncer. `databases` are lines of its configuration."""

    def __init__(self, folder: Path, databases: str) -> None:
        self.folder, self.port = folder, free_port()
        self.configure(databases)
        (folder / "users").write_text('"postgres" ""\n')
        identity = unprivileged()  # it refuses to run as root
        for path in (folder, folder / "pgbouncer.ini", folder / "users"):
            if identity:
                shutil.chown(path, identity["user"], identity["group"])
        with (folder / "pgbouncer.log").open("w") as log:
            self.process = subprocess.Popen(
                [PROGRAM or "pgbouncer", folder / "pgbouncer.ini"], stdout=log, stderr=log, cwd=folder, **identity
            )

    def configure(self, databases: str) -> None:
        text = CONFIGURATION.format(
            databases=databases, port=self.port, folder=self.folder, size=POOL_SIZE, retry=LOGIN_RETRY
        )
        (self.folder / "pgbouncer.ini").write_text(text)

    def move(self, databases: str) -> None:
        """Send the clients to other servers at once, as a failover does."""
        self.configure(databases)
        self.command("RELOAD")

    def clients(self) -> int:
        """Return how many clients use a database."""
        return sum(database == "postgres" for _, _, database, *_ in self.command("SHOW CLIENTS"))

    def command(self, command: str) -> list[Any]:
        with closing(psycopg2.connect(host="127.0.0.1", port=self.port, user="postgres", dbname="pgbouncer")) as admin:
            admin.autocommit = True
            cursor = admin.cursor()
            cursor.execute(command)
            return cursor.fetchall() if cursor.description else []

    def wait(self) -> None:
        until = time.monotonic() + 10
        while True:
            try:
                psycopg2.connect(host="127.0.0.1", port=self.port, user="postgres", dbname="pgbouncer").close()
            except psycopg2.OperationalError as error:
                if self.process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError((self.folder / "pgbouncer.log").read_text()) from error
                time.sleep(0.05)
            else:
                return


def through(url: str, port: int) -> str:
    """Return the URL of the same database through the pooler on a port, as the role that the URL's options name."""
    direct = make_url(url)
    role = re.search(r"-crole=(\w+)", str(direct.query.get("options", "")))
    pooled = direct.set(host="127.0.0.1", port=port, username=role[1] if role else direct.username, query=PATIENT)
    return pooled.render_as_string(hide_password=False)


def pooled(url: str) -> str:
    """Return the URL that the applications of the tests connect with."""
    return through(url, int(os.environ[PORT])) if url.startswith("postgresql") and WANTED else url


@contextmanager
def pooler(databases: str) -> Iterator[Pooler]:
    if not PROGRAM:
        raise RuntimeError(MISSING)
    folder = Path(mkdtemp(prefix="todo-pooler-"))
    running = Pooler(folder, databases)
    try:
        running.wait()
        yield running
    finally:
        running.process.terminate()
        running.process.wait()
        shutil.rmtree(folder)
