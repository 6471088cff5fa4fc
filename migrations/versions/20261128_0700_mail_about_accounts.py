"""Jobs and notifications about an account itself.

Revision: 0026
After: 0025
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0026"
down_revision: str | None = "0025"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

JOBS = "'test_celery_task', 'recompute_impact_score', 'notify', 'send_mail', 'expire_lease', 'remind_of_due_tasks', 'index_tasks', 'empty_ended_accounts', 'purge_events', 'purge_notifications', 'purge_idempotent_requests', 'purge_finished_jobs'"
KINDS = "'assigned', 'unassigned', 'mentioned', 'claimed', 'completed', 'reopened', 'released', 'handed_over', 'due_in_a_day', 'due_in_an_hour'"


def know(jobs: str, kinds: str) -> None:
    """Validated in a statement of its own, which takes no lock that writers would wait for."""
    op.drop_constraint(op.f("ck_jobs_name_known"), "jobs")
    op.create_check_constraint(op.f("ck_jobs_name_known"), "jobs", f"name IN ({jobs})")
    name = op.f("ck_notifications_kind_known")
    op.drop_constraint(name, "notifications")
    op.create_check_constraint(name, "notifications", f"kind IN ({kinds})", postgresql_not_valid=True)
    with op.get_context().autocommit_block():
        op.execute(f"ALTER TABLE notifications VALIDATE CONSTRAINT {name}")


def upgrade() -> None:
    know(f"{JOBS}, 'send_account_mail', 'tell_of_failed_sign_ins'", f"{KINDS}, 'sign_ins_failed'")


def downgrade() -> None:
    op.execute("DELETE FROM jobs WHERE name IN ('send_account_mail', 'tell_of_failed_sign_ins')")
    op.execute("DELETE FROM notifications WHERE kind = 'sign_ins_failed'")
    know(JOBS, KINDS)
