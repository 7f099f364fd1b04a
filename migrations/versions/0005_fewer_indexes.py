"""fewer indexes

Revision ID: 0005
Revises: 0004
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("ix_tasks_title", "tasks")
    op.drop_index("ix_tasks_updated_at", "tasks")
    op.drop_index("ix_tasks_id", "tasks")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER INDEX ix_tasks_id_2 RENAME TO ix_tasks_id")
    else:  # it cannot rename one
        op.drop_index("ix_tasks_id_2", "tasks")
        op.create_index("ix_tasks_id", "tasks", ["id"])


def downgrade() -> None:
    op.create_index("ix_tasks_id_2", "tasks", ["id"])
    op.drop_index("ix_tasks_id", "tasks")
    op.create_index("ix_tasks_id", "tasks", ["id"], unique=True)
    op.create_index("ix_tasks_updated_at", "tasks", ["user_id", "updated_at", "id"])
    op.create_index("ix_tasks_title", "tasks", ["user_id", "title", "id"], postgresql_ops={"title": 'COLLATE "C"'})
