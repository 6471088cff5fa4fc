"""Leases of tasks.

Revision: 0006
After: 0005
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

EVENTS = "'task.created', 'task.updated', 'task.deleted', 'task.assigned', 'task.unassigned', 'task.status_changed', 'chat.message', 'user.online', 'user.offline', 'notification.created', 'notification.read', 'account.deactivated', 'log.renewed'"
JOBS = "'test_celery_task', 'recompute_impact_score', 'notify', 'send_mail', 'remind_of_due_tasks', 'purge_events', 'purge_notifications', 'purge_idempotent_requests', 'purge_finished_jobs'"


def replace_checks(events: str, jobs: str) -> None:
    op.drop_constraint(op.f("ck_events_type_known"), "events")
    # All rows that are there satisfy it, and the next revision of this kind looks through them without a lock.
    op.create_check_constraint(op.f("ck_events_type_known"), "events", f"type IN ({events})", postgresql_not_valid=True)
    op.drop_constraint(op.f("ck_jobs_name_known"), "jobs")
    op.create_check_constraint(op.f("ck_jobs_name_known"), "jobs", f"name IN ({jobs})")


def upgrade() -> None:
    op.add_column("tasks", sa.Column("lease_token", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.add_column("tasks", sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("tasks", sa.Column("lease_seconds", sa.BigInteger(), nullable=True))
    op.create_check_constraint(
        op.f("ck_tasks_lease_whole"), "tasks", "(lease_expires_at IS NULL) = (lease_seconds IS NULL)"
    )
    op.create_check_constraint(
        op.f("ck_tasks_lease_while_worked_on"), "tasks", "lease_expires_at IS NULL OR status = 'in_progress'"
    )
    op.create_index(
        "ix_tasks_claimable",
        "tasks",
        ["priority_rank", "due_at", "created_at", "id"],
        unique=False,
        postgresql_where=sa.text("status = 'available'"),
    )
    op.create_index(
        "ix_tasks_lease_expires_at",
        "tasks",
        ["lease_expires_at"],
        unique=False,
        postgresql_where=sa.text("lease_expires_at IS NOT NULL"),
    )
    replace_checks(f"{EVENTS}, 'task.lease_expired'", f"{JOBS}, 'expire_lease'")


def downgrade() -> None:
    op.execute("DELETE FROM events WHERE type = 'task.lease_expired'")
    op.execute("DELETE FROM jobs WHERE name = 'expire_lease'")
    replace_checks(EVENTS, JOBS)
    op.drop_index("ix_tasks_lease_expires_at", "tasks")
    op.drop_index("ix_tasks_claimable", "tasks")
    for name in ("lease_seconds", "lease_expires_at", "lease_token"):
        op.drop_column("tasks", name)
