"""an index for each order of a list

Revision ID: 0002
Revises: 0001
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_tasks_updated_at", "tasks", ["user_id", "updated_at", "id"])
    op.create_index("ix_tasks_title", "tasks", ["user_id", "title", "id"], postgresql_ops={"title": 'COLLATE "C"'})


def downgrade() -> None:
    op.drop_index("ix_tasks_title", "tasks")
    op.drop_index("ix_tasks_updated_at", "tasks")
