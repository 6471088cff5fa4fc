"""Validate what accounts and events may be, where the revision before was run as it once was.

Revision: 0025
After: 0024
"""

from collections.abc import Sequence

from alembic import op

from migrations.online import online

revision: str = "0025"
down_revision: str | None = "0024"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    # By itself, this reads the whole tables under a lock that stops neither readers nor writers.
    with online():
        op.execute("ALTER TABLE users VALIDATE CONSTRAINT ck_users_person_or_agent")
        op.execute("ALTER TABLE users VALIDATE CONSTRAINT ck_users_emptied_has_ended")
        op.execute("ALTER TABLE events VALIDATE CONSTRAINT ck_events_type_known")


def downgrade() -> None:
    # There is nothing to take back.
    pass
