"""Jobs and notifications about an account itself.

Revision: 0026
After: 0025
"""

from collections.abc import Sequence

from alembic import op

from migrations.online import online, replace_check

revision: str = "0026"
down_revision: str | None = "0025"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

JOBS = "'test_celery_task', 'recompute_impact_score', 'notify', 'send_mail', 'expire_lease', 'remind_of_due_tasks', 'index_tasks', 'empty_ended_accounts', 'purge_events', 'purge_notifications', 'purge_idempotent_requests', 'purge_finished_jobs'"
KINDS = "'assigned', 'unassigned', 'mentioned', 'claimed', 'completed', 'reopened', 'released', 'handed_over', 'due_in_a_day', 'due_in_an_hour'"


def know(jobs: str, kinds: str) -> None:
    with online():
        replace_check("jobs", "ck_jobs_name_known", f"name IN ({jobs})")
        replace_check("notifications", "ck_notifications_kind_known", f"kind IN ({kinds})")


def upgrade() -> None:
    know(f"{JOBS}, 'send_account_mail', 'tell_of_failed_sign_ins'", f"{KINDS}, 'sign_ins_failed'")


def downgrade() -> None:
    op.execute("DELETE FROM jobs WHERE name IN ('send_account_mail', 'tell_of_failed_sign_ins')")
    op.execute("DELETE FROM notifications WHERE kind = 'sign_ins_failed'")
    know(JOBS, KINDS)
