"""Validate the vocabulary of events.

Revision: 0010
After: 0009
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0010"
down_revision: str | None = "0009"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    # By itself, this reads the whole table under a lock that stops neither readers nor writers.
    op.execute("ALTER TABLE events VALIDATE CONSTRAINT ck_events_type_known")


def downgrade() -> None:
    # There is nothing to take back.
    pass
