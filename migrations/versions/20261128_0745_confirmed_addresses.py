"""Addresses that were confirmed, and notifications that were mailed.

Revision: 0028
After: 0027
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0028"
down_revision: str | None = "0027"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

JOBS = "'test_celery_task', 'recompute_impact_score', 'notify', 'send_mail', 'send_account_mail', 'tell_of_failed_sign_ins', 'expire_lease', 'remind_of_due_tasks', 'index_tasks', 'empty_ended_accounts', 'purge_events', 'purge_notifications', 'purge_idempotent_requests', 'purge_finished_jobs'"
INDEXES = {"ix_notifications_mailed_to": "user_id", "ix_notifications_mailed_by": "actor_id"}


def know(jobs: str) -> None:
    name = op.f("ck_jobs_name_known")
    op.drop_constraint(name, "jobs")
    op.create_check_constraint(name, "jobs", f"name IN ({jobs})", postgresql_not_valid=True)
    with op.get_context().autocommit_block():
        op.execute(f"ALTER TABLE jobs VALIDATE CONSTRAINT {name}")


def upgrade() -> None:
    op.add_column("users", sa.Column("email_confirmed_at", sa.DateTime(timezone=True), nullable=True))
    # They have had mail until now, and nobody has asked them.
    op.execute("UPDATE users SET email_confirmed_at = now() WHERE email IS NOT NULL")
    op.add_column("notifications", sa.Column("mailed_at", sa.DateTime(timezone=True), nullable=True))
    know(f"{JOBS}, 'send_confirmation', 'send_mail_digest'")
    with op.get_context().autocommit_block():
        for name, column in INDEXES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(
                f"CREATE INDEX CONCURRENTLY {name} ON notifications ({column}, mailed_at) WHERE mailed_at IS NOT NULL"
            )


def downgrade() -> None:
    op.execute("DELETE FROM jobs WHERE name IN ('send_confirmation', 'send_mail_digest')")
    know(JOBS)
    op.drop_column("notifications", "mailed_at")
    op.drop_column("users", "email_confirmed_at")
