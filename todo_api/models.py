"""The tables: users and their tasks, with every rule that the database itself can hold."""

from datetime import UTC, date, datetime
from functools import partial

import sqlalchemy as sa
import uuid_utils
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from todo_api.extensions import Base

RFC3339 = "%Y-%m-%dT%H:%M:%S.%fZ"  # times as the API writes them: 2026-02-08T09:30:00.123456Z
JSON = sa.JSON().with_variant(JSONB(), "postgresql")
LONGEST_TITLE = 200  # characters
PRIORITIES = ("low", "medium", "high")
UUID_TEXT = sa.String(36).with_variant(sa.UUID(as_uuid=False), "postgresql")
utc_now = partial(datetime.now, UTC)


class Timestamp(sa.TypeDecorator[datetime]):
    """A time in UTC: timestamptz on PostgreSQL, RFC 3339 text on SQLite, which sorts as the times do."""

    impl = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")  # SQLAlchemy's for SQLite drops the time zone
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | str | None:
        return value.astimezone(UTC).strftime(RFC3339) if value and dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | str | None, dialect: sa.Dialect) -> datetime | None:
        time = datetime.fromisoformat(value) if isinstance(value, str) else value
        return time.astimezone(UTC) if time else None


def new_task_id() -> str:
    """Return a UUID of version 7 in lower case (RFC 9562, section 5.7)."""
    return str(uuid_utils.uuid7())


class User(Base):
    """Somebody who has had a task; `id` is the `sub` claim of their tokens."""

    __tablename__ = "users"
    __table_args__ = (sa.CheckConstraint("length(id) BETWEEN 1 AND 255", name="id_length"),)

    id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    created_at: Mapped[datetime] = mapped_column(Timestamp, default=utc_now)
    # The latest version of any of the user's tasks: every write of the user sets it first, so they take turns.
    updated_at: Mapped[datetime] = mapped_column(Timestamp, default=utc_now, server_default=sa.func.now())
    task_count: Mapped[int | None]  # None: not counted yet; the next creation or deletion counts
    forgotten_at: Mapped[datetime | None] = mapped_column(Timestamp)  # deletions up to this time are forgotten


class Task(Base):
    """One task of one user. `updated_at` is its version: every change sets it strictly later."""

    __tablename__ = "tasks"
    __table_args__ = (
        # The owner comes first, so a primary-key lookup needs the owner.
        sa.PrimaryKeyConstraint("user_id", "id"),
        sa.CheckConstraint(f"length(title) BETWEEN 1 AND {LONGEST_TITLE}", name="title_length"),
        sa.CheckConstraint("length(description) <= 2000", name="description_length"),
        sa.CheckConstraint(f"priority IN {PRIORITIES}", name="priority"),
        sa.CheckConstraint("length(idempotency_key) BETWEEN 1 AND 255", name="idempotency_key_length"),
        sa.CheckConstraint("(idempotency_key IS NULL) = (idempotency_digest IS NULL)", name="idempotency_pair"),
    )

    user_id: Mapped[str] = mapped_column(sa.Text, sa.ForeignKey("users.id", ondelete="CASCADE"))
    id: Mapped[str] = mapped_column(UUID_TEXT, default=new_task_id, index=True)
    title: Mapped[str] = mapped_column(sa.Text)
    description: Mapped[str | None] = mapped_column(sa.Text)
    is_completed: Mapped[bool] = mapped_column(sa.Boolean(create_constraint=True, name="is_completed"), default=False)
    created_at: Mapped[datetime] = mapped_column(Timestamp, default=utc_now)
    updated_at: Mapped[datetime] = mapped_column(Timestamp, default=utc_now)
    idempotency_key: Mapped[str | None] = mapped_column(sa.Text)
    idempotency_digest: Mapped[bytes | None] = mapped_column(sa.LargeBinary)
    due_date: Mapped[date | None]
    priority: Mapped[str | None] = mapped_column(sa.Text)
    tags: Mapped[list[str]] = mapped_column(JSON, default=list, server_default="[]")
    completed_at: Mapped[datetime | None] = mapped_column(Timestamp)

    def __repr__(self) -> str:
        return f"<Task {self.id} of {self.user_id!r}: {self.title!r}>"


class Deletion(Base):
    """A task that was deleted, for clients that keep a copy."""

    __tablename__ = "deletions"
    __table_args__ = (sa.PrimaryKeyConstraint("user_id", "deleted_at", "task_id"),)

    user_id: Mapped[str] = mapped_column(sa.Text, sa.ForeignKey("users.id", ondelete="CASCADE"))
    deleted_at: Mapped[datetime] = mapped_column(Timestamp)
    task_id: Mapped[str] = mapped_column(UUID_TEXT)


# Other orders have no index: sorting a user's tasks takes 2 ms for 10,000, and an index would cost every write.
sa.Index("ix_tasks_newest_first", Task.user_id, Task.created_at.desc(), Task.id.desc())
KEY = Task.idempotency_key
HAS_KEY = KEY.is_not(None)
sa.Index("ix_tasks_idempotency_key", Task.user_id, KEY, unique=True, postgresql_where=HAS_KEY, sqlite_where=HAS_KEY)
