"""an index of ids that is not unique, built while the table is in use

Revision ID: 0004
Revises: 0003
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.get_context().autocommit_block():
        # An upgrade that was interrupted leaves an index that is not valid.
        op.drop_index("ix_tasks_id_2", "tasks", if_exists=True, postgresql_concurrently=True)
        op.create_index("ix_tasks_id_2", "tasks", ["id"], postgresql_concurrently=True)


def downgrade() -> None:
    op.drop_index("ix_tasks_id_2", "tasks")
