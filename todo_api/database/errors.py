"""What can go wrong with a statement, told apart by SQLSTATE and never by message."""

from todo_api.errors import Unavailable

KEY_VIOLATIONS = FOREIGN_KEY_VIOLATION, UNIQUE_VIOLATION = "23503", "23505"
ROLLED_BACK = ("40001", "40P01")  # serialization failure, deadlock
READ_ONLY = "25006"
# A prepared statement is missing, already exists (an undetected pooler), or its table has changed since.
STALE_STATEMENT = ("26000", "42P05", "0A000")
SQLITE_ERRORS = {
    "SQLITE_CONSTRAINT_FOREIGNKEY": FOREIGN_KEY_VIOLATION,
    "SQLITE_CONSTRAINT_PRIMARYKEY": UNIQUE_VIOLATION,
    "SQLITE_CONSTRAINT_UNIQUE": UNIQUE_VIOLATION,
}


class DatabaseError(Exception):
    """The database refused a statement with the SQLSTATE `code`; the message quotes no value of a row."""

    def __init__(self, error: Exception) -> None:
        self.code = sqlstate(error)
        message = getattr(getattr(error, "diag", None), "message_primary", None) or str(error)
        Exception.__init__(self, f"{self.code or type(error).__name__}: {' '.join(message.split())}")


class ConstraintViolated(DatabaseError):
    """A constraint of a table forbids the statement."""

    @property
    def is_key_violation(self) -> bool:
        """Whether a key is taken, or the row that a foreign key names is gone."""
        return self.code in KEY_VIOLATIONS


class DatabaseUnavailable(DatabaseError, Unavailable):
    """The database is away, too slow, read-only, or has no connection left."""

    error_code, detail = "DATABASE_UNAVAILABLE", "The database cannot be reached."

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.log_message = str(self)


def sqlstate(error: Exception) -> str | None:
    """Return the SQLSTATE of a driver's error, None when there is none."""
    return getattr(error, "pgcode", None) or SQLITE_ERRORS.get(getattr(error, "sqlite_errorname", ""))
