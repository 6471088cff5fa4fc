"""Jobs that do in pieces what would be too much for one transaction.

Revision: 0029
After: 0028
"""

from collections.abc import Sequence

from alembic import op

from migrations.online import online, replace_check

revision: str = "0029"
down_revision: str | None = "0028"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

JOBS = "'test_celery_task', 'recompute_impact_score', 'notify', 'send_mail', 'send_account_mail', 'send_confirmation', 'send_mail_digest', 'tell_of_failed_sign_ins', 'expire_lease', 'remind_of_due_tasks', 'index_tasks', 'empty_ended_accounts', 'purge_events', 'purge_notifications', 'purge_idempotent_requests', 'purge_finished_jobs'"


def know(jobs: str) -> None:
    with online():
        replace_check("jobs", "ck_jobs_name_known", f"name IN ({jobs})")


def upgrade() -> None:
    know(f"{JOBS}, 'give_back_tasks', 'mark_notifications_read'")


def downgrade() -> None:
    op.execute("DELETE FROM jobs WHERE name IN ('give_back_tasks', 'mark_notifications_read')")
    know(JOBS)
