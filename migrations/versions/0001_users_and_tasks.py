"""users and their tasks

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TIMESTAMP = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
UUID_TEXT = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")
HAS_KEY = sa.text("idempotency_key IS NOT NULL")


def upgrade() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.CheckConstraint("length(id) BETWEEN 1 AND 255", name=op.f("ck_users_id_length")),
    )
    op.create_table(
        "tasks",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("id", UUID_TEXT, nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        # a check of its own where the database has no booleans
        sa.Column("is_completed", sa.Boolean(create_constraint=True, name="is_completed"), nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("updated_at", TIMESTAMP, nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("idempotency_digest", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("user_id", "id", name=op.f("pk_tasks")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_tasks_user_id_users"), ondelete="CASCADE"),
        sa.CheckConstraint("length(title) BETWEEN 1 AND 200", name=op.f("ck_tasks_title_length")),
        sa.CheckConstraint("length(description) <= 2000", name=op.f("ck_tasks_description_length")),
        sa.CheckConstraint("length(idempotency_key) BETWEEN 1 AND 255", name=op.f("ck_tasks_idempotency_key_length")),
        sa.CheckConstraint(
            "(idempotency_key IS NULL) = (idempotency_digest IS NULL)", name=op.f("ck_tasks_idempotency_pair")
        ),
    )
    op.create_index("ix_tasks_id", "tasks", ["id"], unique=True)
    op.create_index("ix_tasks_newest_first", "tasks", ["user_id", sa.text("created_at DESC"), sa.text("id DESC")])
    op.create_index(
        "ix_tasks_idempotency_key",
        "tasks",
        ["user_id", "idempotency_key"],
        unique=True,
        postgresql_where=HAS_KEY,
        sqlite_where=HAS_KEY,
    )


def downgrade() -> None:
    op.drop_table("tasks")
    op.drop_table("users")
