"""the owner's row and deletions

The code before this revision goes on: it leaves the new columns out. It neither counts tasks nor records deletions, so
`flask recount` makes every row right once none of it runs. Until then a count is taken when it is first needed.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TIMESTAMP = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
UUID_TEXT = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")


def upgrade() -> None:
    # A default that is the same for all rows rewrites no table.
    now = sa.func.now() if op.get_bind().dialect.name == "postgresql" else "1970-01-01T00:00:00.000000Z"
    op.add_column("users", sa.Column("updated_at", TIMESTAMP, nullable=False, server_default=now))
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            "UPDATE users SET updated_at = coalesce("
            "(SELECT max(updated_at) FROM tasks WHERE user_id = users.id), created_at)"
        )
    op.add_column("users", sa.Column("task_count", sa.Integer()))
    op.add_column("users", sa.Column("forgotten_at", TIMESTAMP))
    op.create_table(
        "deletions",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("deleted_at", TIMESTAMP, nullable=False),
        sa.Column("task_id", UUID_TEXT, nullable=False),
        sa.PrimaryKeyConstraint("user_id", "deleted_at", "task_id", name=op.f("pk_deletions")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_deletions_user_id_users"), ondelete="CASCADE"),
    )


def downgrade() -> None:
    op.drop_table("deletions")
    for column in ("forgotten_at", "task_count", "updated_at"):
        op.drop_column("users", column)
