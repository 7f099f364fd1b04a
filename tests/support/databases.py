"""Direct access to the tests' databases."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, create_engine, make_url, text


@contextmanager
def engine_of(url: str, **options: Any) -> Iterator[Engine]:
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg2:"), **options)
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
