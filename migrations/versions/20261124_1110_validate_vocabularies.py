"""Validate the vocabularies of events and jobs.

Revision: 0003
After: 0002
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    # By itself, this reads the whole table under a lock that stops neither readers nor writers.
    op.execute("ALTER TABLE events VALIDATE CONSTRAINT ck_events_type_known")
    op.execute("ALTER TABLE jobs VALIDATE CONSTRAINT ck_jobs_name_known")


def downgrade() -> None:
    # There is nothing to take back.
    pass
