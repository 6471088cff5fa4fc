"""The words that tasks are found by.

Revision: 0020
After: 0019
"""

from collections.abc import Sequence

from alembic import op

from migrations.online import add_column, online, replace_check

revision: str = "0020"
down_revision: str | None = "0019"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

JOBS = "'test_celery_task', 'recompute_impact_score', 'notify', 'send_mail', 'expire_lease', 'remind_of_due_tasks', 'purge_events', 'purge_notifications', 'purge_idempotent_requests', 'purge_finished_jobs'"


def upgrade() -> None:
    with online():
        add_column("tasks", "words", "tsvector")
        replace_check("jobs", "ck_jobs_name_known", f"name IN ({JOBS}, 'index_tasks')")


def downgrade() -> None:
    op.execute("DELETE FROM jobs WHERE name = 'index_tasks'")
    op.drop_constraint(op.f("ck_jobs_name_known"), "jobs")
    op.create_check_constraint(op.f("ck_jobs_name_known"), "jobs", f"name IN ({JOBS})")
    op.drop_column("tasks", "words")
