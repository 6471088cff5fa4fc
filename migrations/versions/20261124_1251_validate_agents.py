"""Validate that accounts are persons or agents.

Revision: 0013
After: 0012
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0013"
down_revision: str | None = "0012"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    # By itself, this reads the whole table under a lock that stops neither readers nor writers.
    op.execute("ALTER TABLE users VALIDATE CONSTRAINT ck_users_person_or_agent")
    op.execute("ALTER TABLE users VALIDATE CONSTRAINT fk_users_owner_id_users")


def downgrade() -> None:
    # There is nothing to take back.
    pass
