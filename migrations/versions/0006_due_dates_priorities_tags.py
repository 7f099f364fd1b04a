"""due dates, priorities, tags and times of completion

No row is rewritten: PostgreSQL keeps a constant default once for all rows. The code before this revision goes on: it
leaves the new columns out. A task that it completes has no `completed_at`; `updated_at` is shown in its place.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TIMESTAMP = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
JSON = sa.JSON().with_variant(JSONB(), "postgresql")
CHECK = "CONSTRAINT ck_tasks_priority CHECK (priority IN ('low', 'medium', 'high'))"


def upgrade() -> None:
    op.add_column("tasks", sa.Column("due_date", sa.Date()))
    if op.get_bind().dialect.name == "postgresql":
        op.add_column("tasks", sa.Column("priority", sa.Text()))
        op.execute(f"ALTER TABLE tasks ADD {CHECK} NOT VALID")  # else it would read the table under an exclusive lock
    else:  # it adds a constraint with its column only
        op.execute(f"ALTER TABLE tasks ADD COLUMN priority TEXT {CHECK}")
    op.add_column("tasks", sa.Column("tags", JSON, nullable=False, server_default="[]"))
    op.add_column("tasks", sa.Column("completed_at", TIMESTAMP))


def downgrade() -> None:
    for column in ("completed_at", "tags", "priority", "due_date"):
        op.drop_column("tasks", column)
