"""Sessions, and the event of a sign-in's end.

Revision: 0009
After: 0008
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0009"
down_revision: str | None = "0008"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

EVENTS_BEFORE = "type IN ('task.created', 'task.updated', 'task.deleted', 'task.assigned', 'task.unassigned', 'task.status_changed', 'task.lease_expired', 'task.blocked', 'task.unblocked', 'task.ready', 'chat.message', 'user.online', 'user.offline', 'notification.created', 'notification.read', 'account.deactivated', 'log.renewed')"
EVENTS_AFTER = "type IN ('task.created', 'task.updated', 'task.deleted', 'task.assigned', 'task.unassigned', 'task.status_changed', 'task.lease_expired', 'task.blocked', 'task.unblocked', 'task.ready', 'chat.message', 'user.online', 'user.offline', 'notification.created', 'notification.read', 'account.deactivated', 'sign_in.ended', 'log.renewed')"


def replace_check(table: str, name: str, condition: str) -> None:
    # Rows that are there needn't be looked through while nobody else can use the table; the next revision does that.
    op.drop_constraint(op.f(f"ck_{table}_{name}"), table)
    op.create_check_constraint(op.f(f"ck_{table}_{name}"), table, condition, postgresql_not_valid=True)


def upgrade() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("family_hash", sa.Text(), nullable=False),
        sa.Column("current_hash", sa.Text(), nullable=False),
        sa.Column("previous_hash", sa.Text(), nullable=True),
        sa.Column("user_agent", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("refreshed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_sessions_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
        sa.UniqueConstraint("family_hash", name=op.f("uq_sessions_family_hash")),
    )
    op.create_index(op.f("ix_sessions_expires_at"), "sessions", ["expires_at"], unique=False)
    op.create_index(
        op.f("ix_sessions_user_id_created_at_id"), "sessions", ["user_id", "created_at", "id"], unique=False
    )
    replace_check("events", "type_known", EVENTS_AFTER)


def downgrade() -> None:
    op.execute("DELETE FROM events WHERE type = 'sign_in.ended'")
    replace_check("events", "type_known", EVENTS_BEFORE)
    op.drop_table("sessions")
