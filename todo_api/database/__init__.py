"""Runs one statement on PostgreSQL or SQLite, and knows when it may run it again."""

from todo_api.database.errors import READ_ONLY, ConstraintViolated, DatabaseError, DatabaseUnavailable
from todo_api.database.execution import Database, get_database, init_app
from todo_api.database.prepared import Statement

__all__ = ["READ_ONLY", "ConstraintViolated", "Database", "DatabaseError", "DatabaseUnavailable"]
__all__ += ["Statement", "get_database", "init_app"]
