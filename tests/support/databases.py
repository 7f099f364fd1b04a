"""Direct access to the tests' databases."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, make_url, text

DOCS = Path(__file__).parents[2] / "docs"
PATIENT = {"connect_timeout": "30"}  # seconds, for a busy machine
SERVICE, MIGRATIONS = "todo_service", "todo_migrations"  # the roles of docs/deploy.md


def documented_statements(page: str = "deploy.md") -> list[str]:
    """Return the SQL statements of a page in docs/, each on one line."""
    blocks = re.findall(r"^```sql\n(.*?)^```", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)
    return [line.partition(";")[0] for block in blocks for line in block.splitlines()]


def grant(url: str, role: str) -> None:
    """Give a role the rights that docs/deploy.md gives to the service, those of `flask user-delete` included."""
    for statement in documented_statements():
        if statement.startswith("GRANT") and SERVICE in statement:
            rows_of(url, statement.replace(SERVICE, role))


def as_role(url: str, role: str) -> str:
    """Return the URL of the database for sessions with the rights of that role."""
    return make_url(url).update_query_dict({"options": f"-crole={role}"}).render_as_string(hide_password=False)


@contextmanager
def engine_of(url: str, **options: Any) -> Iterator[Engine]:
    """Yield an engine with all rights, whatever role the URL names."""
    owner = make_url(url.replace("postgresql:", "postgresql+psycopg2:")).difference_update_query(["options"])
    engine = create_engine(owner, **options)
    try:
        yield engine
    finally:
        engine.dispose()


def rows_of(url: str, statement: str, **values: Any) -> list[Any]:
    """Run one statement in a transaction of its own; return the first column."""
    with engine_of(url) as engine, engine.begin() as connection:
        result = connection.execute(text(statement), values)
        return [row[0] for row in result] if result.returns_rows else []


@contextmanager
def database_in(url: str, encoding: str) -> Iterator[str]:
    """Make a PostgreSQL database with that encoding on the server of `url`, and yield its URL."""
    name = f"{make_url(url).database}_{encoding.lower()}"
    with engine_of(url, isolation_level="AUTOCOMMIT") as engine, engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'"))
        try:
            yield make_url(url).set(database=name).render_as_string(hide_password=False)
        finally:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
