"""Direct access to the tests' databases."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, create_engine, text


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
