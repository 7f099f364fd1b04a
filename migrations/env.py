"""How Alembic reaches the database: with MIGRATION_DATABASE_URL where it is set."""

from alembic import context
from flask import current_app
from sqlalchemy import create_engine, pool, text
from sqlalchemy.exc import OperationalError

metadata = current_app.extensions["migrate"].db.metadata
url = current_app.config["MIGRATION_DATABASE_URL"]
options = {"target_metadata": metadata, "compare_type": True, **current_app.extensions["migrate"].configure_args}

if context.is_offline_mode():
    context.configure(url=url, literal_binds=True, **options)
    with context.begin_transaction():
        context.run_migrations()
else:
    engine = create_engine(url, poolclass=pool.NullPool)
    try:
        connection = engine.connect()
    except OperationalError as error:
        raise SystemExit(f"todo_api: the database cannot be reached: {str(error.orig).splitlines()[0]}") from None
    with connection:
        context.configure(connection=connection, **options)
        with context.begin_transaction():
            context.run_migrations()
        if engine.dialect.name == "postgresql" and not connection.scalar(text("SELECT lower('\u00c4') = '\u00e4'")):
            current_app.logger.warning(
                "This database knows upper and lower case of ASCII letters only, and so does a search (q)."
                " Create it with LC_CTYPE 'C.UTF-8' or another locale in UTF-8."
            )
