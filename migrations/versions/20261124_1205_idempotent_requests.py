"""Requests that have one effect however often they come.

Revision: 0005
After: 0004
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

JOBS_BEFORE = "name IN ('test_celery_task', 'recompute_impact_score', 'notify', 'send_mail', 'remind_of_due_tasks', 'purge_events', 'purge_notifications', 'purge_finished_jobs')"
JOBS_AFTER = "name IN ('test_celery_task', 'recompute_impact_score', 'notify', 'send_mail', 'remind_of_due_tasks', 'purge_events', 'purge_notifications', 'purge_idempotent_requests', 'purge_finished_jobs')"


def upgrade() -> None:
    op.create_table(
        "idempotent_requests",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("body_hash", sa.Text(), nullable=False),
        sa.Column("status", sa.BigInteger(), nullable=False),
        sa.Column("headers", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "method", "path", "key", name=op.f("pk_idempotent_requests")),
    )
    op.create_index(op.f("ix_idempotent_requests_created_at"), "idempotent_requests", ["created_at"], unique=False)
    op.drop_constraint(op.f("ck_jobs_name_known"), "jobs")
    # The table of jobs is small: what is done is forgotten after a week.
    op.create_check_constraint(op.f("ck_jobs_name_known"), "jobs", JOBS_AFTER)


def downgrade() -> None:
    op.execute("DELETE FROM jobs WHERE name = 'purge_idempotent_requests'")
    op.drop_constraint(op.f("ck_jobs_name_known"), "jobs")
    op.create_check_constraint(op.f("ck_jobs_name_known"), "jobs", JOBS_BEFORE)
    op.drop_table("idempotent_requests")
