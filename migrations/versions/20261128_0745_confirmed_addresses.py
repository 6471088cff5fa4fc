"""Addresses that were confirmed, and notifications that were mailed.

Revision: 0028
After: 0027
"""

from collections.abc import Sequence

from alembic import op

from migrations.online import add_column, fill, online, replace_check, replace_indexes

revision: str = "0028"
down_revision: str | None = "0027"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

JOBS = "'test_celery_task', 'recompute_impact_score', 'notify', 'send_mail', 'send_account_mail', 'tell_of_failed_sign_ins', 'expire_lease', 'remind_of_due_tasks', 'index_tasks', 'empty_ended_accounts', 'purge_events', 'purge_notifications', 'purge_idempotent_requests', 'purge_finished_jobs'"
INDEXES = {
    "ix_notifications_mailed_to": "notifications (user_id, mailed_at) WHERE mailed_at IS NOT NULL",
    "ix_notifications_mailed_by": "notifications (actor_id, mailed_at) WHERE mailed_at IS NOT NULL",
}


def know(jobs: str) -> None:
    with online():
        replace_check("jobs", "ck_jobs_name_known", f"name IN ({jobs})")


def upgrade() -> None:
    with online():
        add_column("users", "email_confirmed_at", "timestamptz")
        # They have had mail until now, and nobody has asked them.
        fill("users", "email_confirmed_at = now()", "email IS NOT NULL AND email_confirmed_at IS NULL")
        add_column("notifications", "mailed_at", "timestamptz")
        replace_indexes({}, INDEXES)
    know(f"{JOBS}, 'send_confirmation', 'send_mail_digest'")


def downgrade() -> None:
    op.execute("DELETE FROM jobs WHERE name IN ('send_confirmation', 'send_mail_digest')")
    know(JOBS)
    op.drop_column("notifications", "mailed_at")
    op.drop_column("users", "email_confirmed_at")
