"""Databases on a Citus cluster, distributed with the statements of docs/scale-out.md.

TEST_CITUS_URL names a database of the coordinator that knows the workers. The cluster trusts the tests' roles.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg2
from psycopg2.extensions import make_dsn
from sqlalchemy import make_url

from tests.support.databases import documented_statements, rows_of

SERVER = os.environ.get("TEST_CITUS_URL")
IS_GROUP = "FROM pg_dist_node WHERE isactive AND noderole = 'primary' AND groupid"
COORDINATOR = f"SELECT nodename || ' ' || nodeport {IS_GROUP} = 0"
WORKERS = f"SELECT nodename || ' ' || nodeport {IS_GROUP} > 0 ORDER BY nodeid"


def nodes(which: str) -> list[tuple[str, int]]:
    """Return the hosts and ports of the coordinator or the workers."""
    assert SERVER
    found = [node.rpartition(" ") for node in rows_of(SERVER, which)]
    return [(host, int(port)) for host, _, port in found]


def execute(url: str, statement: str, *values: Any) -> None:
    connection = psycopg2.connect(url)
    connection.autocommit = True  # as CREATE DATABASE demands
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
    connection.close()


def on_each_node(statement: str, database: str | None = None) -> None:
    """Run a statement on the coordinator and all workers, in a database or in the one of TEST_CITUS_URL."""
    assert SERVER
    own = {} if database is None else {"dbname": database}
    for host, port in nodes(COORDINATOR) + nodes(WORKERS):
        execute(make_dsn(SERVER, host=host, port=port, **own), statement)


@contextmanager
def taking_turns() -> Iterator[None]:
    """Wait until no other process of the tests adds nodes: each sends all roles to them."""
    with closing(psycopg2.connect(SERVER)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(1)")
        yield


def make_database(name: str) -> str:
    """Make a database on every node, with the extension, and return the URL of the coordinator's."""
    assert SERVER
    on_each_node(f"CREATE DATABASE {name}")
    on_each_node("CREATE EXTENSION citus", name)
    url = make_url(SERVER).set(database=name).render_as_string(hide_password=False)
    with taking_turns():
        execute(url, "SELECT citus_set_coordinator_host(%s, %s)", *nodes(COORDINATOR)[0])
        for host, port in nodes(WORKERS):
            execute(url, "SELECT citus_add_node(%s, %s)", host, port)
    return url


@contextmanager
def distributed_databases(migrate: Callable[[str], None]) -> Iterator[Callable[[str], str]]:
    """Yield a function that makes a migrated database, distributes its tables as an operator does, returns its URL."""
    made: list[str] = []

    def make(purpose: str) -> str:
        made.append(f"todo_test_{purpose}_{os.getpid()}_{len(made)}")
        url = make_database(made[-1])
        migrate(url)
        for statement in documented_statements("scale-out.md"):
            if statement.startswith(("SELECT create_", "SELECT truncate_")):
                execute(url, statement)
        return url

    yield make
    for name in made:
        on_each_node(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
