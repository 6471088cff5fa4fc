"""Lanes of jobs: what goes first, and what must not hold up the others.

Revision: 0027
After: 0026
"""

from collections.abc import Sequence

from alembic import op

from migrations.online import add_column, fill, online, replace_indexes

revision: str = "0027"
down_revision: str | None = "0026"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


IS_UNFINISHED = "state IN ('waiting', 'sent')"
BEFORE = {"ix_jobs_due": f"jobs (run_after) WHERE {IS_UNFINISHED}"}
AFTER = {"ix_jobs_due_by_lane": f"jobs (lane, run_after) WHERE {IS_UNFINISHED}"}
MAILS = "('send_mail', 'send_account_mail')"


def upgrade() -> None:
    with online():
        add_column("jobs", "lane", "smallint DEFAULT 1 NOT NULL")
        fill("jobs", "lane = 0", f"{IS_UNFINISHED} AND name = 'expire_lease' AND lane <> 0")
        fill("jobs", "lane = 2", f"{IS_UNFINISHED} AND name IN {MAILS} AND lane <> 2")
        replace_indexes(BEFORE, AFTER)


def downgrade() -> None:
    with online():
        replace_indexes(AFTER, BEFORE)
    op.drop_column("jobs", "lane")
