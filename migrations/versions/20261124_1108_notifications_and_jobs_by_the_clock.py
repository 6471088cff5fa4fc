"""Notifications, and jobs by the clock.

Revision: 0002
After: 0001
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

EVENTS_BEFORE = "type IN ('task.created', 'task.updated', 'task.deleted', 'task.assigned', 'task.unassigned', 'task.status_changed', 'chat.message', 'user.online', 'user.offline', 'account.deactivated')"
EVENTS_AFTER = "type IN ('task.created', 'task.updated', 'task.deleted', 'task.assigned', 'task.unassigned', 'task.status_changed', 'chat.message', 'user.online', 'user.offline', 'notification.created', 'notification.read', 'account.deactivated', 'log.renewed')"
JOBS_BEFORE = "name IN ('test_celery_task', 'recompute_impact_score', 'purge_finished_jobs')"
JOBS_AFTER = "name IN ('test_celery_task', 'recompute_impact_score', 'notify', 'send_mail', 'remind_of_due_tasks', 'purge_events', 'purge_notifications', 'purge_finished_jobs')"


def replace_check(table: str, name: str, condition: str) -> None:
    # Rows that are there needn't be looked through while nobody else can use the table; the next revision does that.
    op.drop_constraint(op.f(f"ck_{table}_{name}"), table)
    op.create_check_constraint(op.f(f"ck_{table}_{name}"), table, condition, postgresql_not_valid=True)


def upgrade() -> None:
    op.create_table(
        "notifications",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("task_id", sa.Uuid(), nullable=True),
        sa.Column("task_title", sa.Text(), nullable=True),
        sa.Column("actor_id", sa.Uuid(), nullable=True),
        sa.Column("event_id", sa.Uuid(), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("read_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "kind IN ('assigned', 'unassigned', 'mentioned', 'claimed', 'completed', 'reopened', 'released', 'due_in_a_day', 'due_in_an_hour')",
            name=op.f("ck_notifications_kind_known"),
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_notifications_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notifications")),
    )
    op.create_index(
        "ix_notifications_read",
        "notifications",
        ["read_at"],
        unique=False,
        postgresql_where=sa.text("read_at IS NOT NULL"),
    )
    op.create_index(
        "ix_notifications_unread",
        "notifications",
        ["user_id", "created_at", "id"],
        unique=False,
        postgresql_where=sa.text("read_at IS NULL"),
    )
    op.create_index(
        op.f("ix_notifications_user_id_created_at_id"), "notifications", ["user_id", "created_at", "id"], unique=False
    )
    op.create_index(
        "uq_notifications_event",
        "notifications",
        ["event_id", "user_id"],
        unique=True,
        postgresql_where=sa.text("event_id IS NOT NULL"),
    )
    op.create_index(
        "uq_notifications_mention",
        "notifications",
        ["task_id", "user_id"],
        unique=True,
        postgresql_where=sa.text("kind = 'mentioned' AND task_id IS NOT NULL"),
    )
    op.create_index(
        "uq_notifications_reminder",
        "notifications",
        ["task_id", "user_id", "kind", "due_at"],
        unique=True,
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.add_column("event_log", sa.Column("purged_seq", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.add_column("event_log", sa.Column("origin", sa.Text(), server_default="", nullable=False))
    op.add_column(
        "event_log",
        sa.Column("lost", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'"), nullable=False),
    )
    op.add_column("events", sa.Column("request_id", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("unique_key", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("held_until", sa.DateTime(timezone=True), nullable=True))
    op.add_column("jobs", sa.Column("unknown_outcomes", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.add_column("jobs", sa.Column("request_id", sa.Text(), nullable=True))
    op.create_index(op.f("ix_jobs_created_at_id"), "jobs", ["created_at", "id"], unique=False)
    op.create_index(
        "uq_jobs_unique_key", "jobs", ["unique_key"], unique=True, postgresql_where=sa.text("unique_key IS NOT NULL")
    )
    replace_check("events", "type_known", EVENTS_AFTER)
    replace_check("jobs", "name_known", JOBS_AFTER)
    op.add_column(
        "users", sa.Column("mail_notifications", sa.Boolean(), server_default=sa.text("true"), nullable=False)
    )


def downgrade() -> None:
    op.execute("DELETE FROM events WHERE type IN ('notification.created', 'notification.read', 'log.renewed')")
    op.execute(
        "DELETE FROM jobs WHERE name NOT IN ('test_celery_task', 'recompute_impact_score', 'purge_finished_jobs')"
    )
    replace_check("events", "type_known", EVENTS_BEFORE)
    replace_check("jobs", "name_known", JOBS_BEFORE)
    op.drop_column("users", "mail_notifications")
    op.drop_index("uq_jobs_unique_key", table_name="jobs", postgresql_where=sa.text("unique_key IS NOT NULL"))
    op.drop_index(op.f("ix_jobs_created_at_id"), table_name="jobs")
    op.drop_column("jobs", "request_id")
    op.drop_column("jobs", "unknown_outcomes")
    op.drop_column("jobs", "held_until")
    op.drop_column("jobs", "unique_key")
    op.drop_column("events", "request_id")
    op.drop_column("event_log", "lost")
    op.drop_column("event_log", "origin")
    op.drop_column("event_log", "purged_seq")
    op.drop_index(
        "uq_notifications_reminder", table_name="notifications", postgresql_where=sa.text("due_at IS NOT NULL")
    )
    op.drop_index(
        "uq_notifications_mention",
        table_name="notifications",
        postgresql_where=sa.text("kind = 'mentioned' AND task_id IS NOT NULL"),
    )
    op.drop_index(
        "uq_notifications_event", table_name="notifications", postgresql_where=sa.text("event_id IS NOT NULL")
    )
    op.drop_index(op.f("ix_notifications_user_id_created_at_id"), table_name="notifications")
    op.drop_index("ix_notifications_unread", table_name="notifications", postgresql_where=sa.text("read_at IS NULL"))
    op.drop_index("ix_notifications_read", table_name="notifications", postgresql_where=sa.text("read_at IS NOT NULL"))
    op.drop_table("notifications")
