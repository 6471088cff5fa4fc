"""Lanes of jobs: what goes first, and what must not hold up the others.

Revision: 0027
After: 0026
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0027"
down_revision: str | None = "0026"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

UNFINISHED = "WHERE state IN ('waiting', 'sent')"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("lane", sa.SmallInteger(), server_default=sa.text("1"), nullable=False))
    op.execute("UPDATE jobs SET lane = 0 WHERE state IN ('waiting', 'sent') AND name = 'expire_lease'")
    mails = "('send_mail', 'send_account_mail')"
    op.execute(f"UPDATE jobs SET lane = 2 WHERE state IN ('waiting', 'sent') AND name IN {mails}")  # noqa: S608
    replace_index("ix_jobs_due", "ix_jobs_due_by_lane", "(lane, run_after)")


def replace_index(before: str, after: str, columns: str) -> None:
    with op.get_context().autocommit_block():
        # One that was cut off is there, and of no use.
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {after}")
        op.execute(f"CREATE INDEX CONCURRENTLY {after} ON jobs {columns} {UNFINISHED}")
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {before}")


def downgrade() -> None:
    replace_index("ix_jobs_due_by_lane", "ix_jobs_due", "(run_after)")
    op.drop_column("jobs", "lane")
