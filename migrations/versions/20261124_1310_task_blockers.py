"""Dependencies between tasks.

Revision: 0007
After: 0006
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

EVENTS_BEFORE = "type IN ('task.created', 'task.updated', 'task.deleted', 'task.assigned', 'task.unassigned', 'task.status_changed', 'task.lease_expired', 'chat.message', 'user.online', 'user.offline', 'notification.created', 'notification.read', 'account.deactivated', 'log.renewed')"
EVENTS_AFTER = "type IN ('task.created', 'task.updated', 'task.deleted', 'task.assigned', 'task.unassigned', 'task.status_changed', 'task.lease_expired', 'task.blocked', 'task.unblocked', 'task.ready', 'chat.message', 'user.online', 'user.offline', 'notification.created', 'notification.read', 'account.deactivated', 'log.renewed')"


def replace_types_of_events(condition: str) -> None:
    # Rows that are there needn't be looked through while nobody else can use the table; the next revision does that.
    op.drop_constraint(op.f("ck_events_type_known"), "events")
    op.create_check_constraint(op.f("ck_events_type_known"), "events", condition, postgresql_not_valid=True)


def upgrade() -> None:
    op.create_table(
        "task_blockers",
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.Column("blocker_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=False),
        sa.CheckConstraint("task_id <> blocker_id", name=op.f("ck_task_blockers_not_itself")),
        sa.ForeignKeyConstraint(
            ["blocker_id"], ["tasks.id"], name=op.f("fk_task_blockers_blocker_id_tasks"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["created_by"], ["users.id"], name=op.f("fk_task_blockers_created_by_users")),
        sa.ForeignKeyConstraint(
            ["task_id"], ["tasks.id"], name=op.f("fk_task_blockers_task_id_tasks"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("task_id", "blocker_id", name=op.f("pk_task_blockers")),
    )
    op.create_index(op.f("ix_task_blockers_blocker_id"), "task_blockers", ["blocker_id"], unique=False)
    replace_types_of_events(EVENTS_AFTER)


def downgrade() -> None:
    op.execute("DELETE FROM events WHERE type IN ('task.blocked', 'task.unblocked', 'task.ready')")
    replace_types_of_events(EVENTS_BEFORE)
    op.drop_table("task_blockers")
