"""Versions for those events of a task alone that change it, and the order of its history by position.

Revision: 0030
After: 0029
"""

from collections.abc import Sequence

from alembic import op

from migrations.online import fill, online, replace_check, replace_indexes

revision: str = "0030"
down_revision: str | None = "0029"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


CHANGES = "'task.assigned', 'task.blocked', 'task.created', 'task.deleted', 'task.lease_expired', 'task.ready', 'task.status_changed', 'task.unassigned', 'task.unblocked', 'task.updated'"
OF_CHANGE = f"(task_version IS NOT NULL) = (type IN ({CHANGES})) AND (task_version IS NULL OR task_id IS NOT NULL)"
HISTORY = {"ix_events_task_id_position": "events (task_id, position) WHERE task_id IS NOT NULL"}


def upgrade() -> None:
    with online():
        # The new one is there before the old one goes, which earlier processes keep to as well.
        replace_check("events", "ck_events_version_of_change", OF_CHANGE)
        op.execute("ALTER TABLE events DROP CONSTRAINT IF EXISTS ck_events_task_with_version")
        # What an identity gives is given once. Two indexes would cost each event more than one. It comes before the new
        # index, which takes long and would be made again if this didn't get its lock.
        op.execute("ALTER TABLE events DROP CONSTRAINT IF EXISTS uq_events_position")
        replace_indexes({}, HISTORY)


def downgrade() -> None:
    with online():
        # Earlier versions know of no event that is about a task and doesn't change it.
        fill("events", "task_id = NULL", "task_id IS NOT NULL AND task_version IS NULL")
        replace_check("events", "ck_events_task_with_version", "(task_id IS NULL) = (task_version IS NULL)")
        op.execute("ALTER TABLE events DROP CONSTRAINT IF EXISTS ck_events_version_of_change")
        replace_indexes(HISTORY, {"uq_events_position": "events (position)"}, unique=True)
    op.execute("ALTER TABLE events ADD CONSTRAINT uq_events_position UNIQUE USING INDEX uq_events_position")
