"""check the priorities that are there, while the table is in use

Revision ID: 0007
Revises: 0006
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE tasks VALIDATE CONSTRAINT ck_tasks_priority")


def downgrade() -> None:
    pass
