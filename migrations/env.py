"""How Alembic reaches the database: with MIGRATION_DATABASE_URL where it is set.

Commands that run at the same time take turns. A step that would wait for a lock gives up, so that requests do not wait
behind it, and is tried again.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import context
from flask import current_app
from sqlalchemy import Connection, Engine, create_engine, event, pool, text
from sqlalchemy.exc import OperationalError

# Times are in seconds.
LOCK_TIMEOUT = 1
ATTEMPTS = 10
PAUSE = 1
LOCK_NOT_AVAILABLE = "55P03"
ADVISORY_LOCK = 8_387_232_614_092_149_113  # no other program's
POLL_INTERVAL = 0.2
LONGEST_TURN = 3600

migrate = current_app.extensions["migrate"]
options = {"target_metadata": migrate.db.metadata, "compare_type": True, **migrate.configure_args}
url = current_app.config["MIGRATION_DATABASE_URL"]


def run(connection: Connection) -> None:
    for _ in range(ATTEMPTS):
        context.configure(connection=connection, transaction_per_migration=True, **options)
        try:
            with context.begin_transaction():
                context.run_migrations()
            return
        except OperationalError as error:
            if getattr(error.orig, "pgcode", None) != LOCK_NOT_AVAILABLE:
                raise
            connection.rollback()
            time.sleep(PAUSE)
    raise SystemExit(
        "todo_api: another transaction keeps a table locked. No migration is half done: run the command again later"
    )


@contextmanager
def taking_turns(engine: Engine) -> Iterator[None]:
    """Wait until no other command migrates the database."""
    if engine.dialect.name == "postgresql":
        # Read committed, or the open transaction has a snapshot, which an index that is built concurrently waits for.
        with engine.connect().execution_options(isolation_level="READ COMMITTED") as connection:
            until = time.monotonic() + LONGEST_TURN
            while not takes_turn(connection):
                if time.monotonic() > until:
                    raise SystemExit("todo_api: another command has been migrating this database for an hour")
                connection.rollback()  # an index that is built concurrently waits for open transactions
                time.sleep(POLL_INTERVAL)
            yield
    else:
        import fcntl  # not above: Windows has none

        with Path(__file__).open() as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def takes_turn(connection: Connection) -> bool:
    """Try to take the lock. It lasts as long as the transaction, which may idle, so that no pooler can keep it."""
    connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
    return bool(connection.scalar(text(f"SELECT pg_try_advisory_xact_lock({ADVISORY_LOCK})")))


def limit_locks(connection: Connection) -> None:
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}s'")


def require_utf8(connection: Connection) -> None:
    """Refuse a database that cannot store every text, before anything is made in it."""
    encoding = connection.scalar(text("SELECT current_setting('server_encoding')"))
    if encoding != "UTF8":
        raise SystemExit(
            f"todo_api: the encoding of this database is {encoding}, and must be UTF8:"
            " CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
        )


if context.is_offline_mode():
    context.configure(url=url, literal_binds=True, **options)
    with context.begin_transaction():
        context.run_migrations()
else:
    engine = create_engine(url, poolclass=pool.NullPool)
    if engine.dialect.name == "postgresql":
        event.listen(engine, "begin", limit_locks)
    try:
        connection = engine.connect()
    except OperationalError as error:
        raise SystemExit(f"todo_api: the database cannot be reached: {str(error.orig).splitlines()[0]}") from None
    with connection:
        if engine.dialect.name == "postgresql":
            require_utf8(connection)
            connection.rollback()
        with taking_turns(engine):
            run(connection)
