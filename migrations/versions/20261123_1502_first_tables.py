"""First tables.

Revision: 0001
After:
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "event_log",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("published_seq", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_event_log_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event_log")),
    )
    # The log counts from its first day in this one row.
    op.execute("INSERT INTO event_log (id) VALUES (1)")
    op.create_table(
        "events",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=True),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("actor_id", sa.Uuid(), nullable=False),
        sa.Column("actor_type", sa.Text(), server_default="user", nullable=False),
        sa.Column("task_id", sa.Uuid(), nullable=True),
        sa.Column("task_version", sa.BigInteger(), nullable=True),
        sa.Column("audience", postgresql.ARRAY(sa.Uuid()), nullable=True),
        sa.Column("data", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.CheckConstraint(
            "type IN ('task.created', 'task.updated', 'task.deleted', 'task.assigned', 'task.unassigned', 'task.status_changed', 'chat.message', 'user.online', 'user.offline', 'account.deactivated')",
            name=op.f("ck_events_type_known"),
        ),
        sa.CheckConstraint("(task_id IS NULL) = (task_version IS NULL)", name=op.f("ck_events_task_with_version")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sa.UniqueConstraint("position", name=op.f("uq_events_position")),
        sa.UniqueConstraint("seq", name=op.f("uq_events_seq")),
    )
    op.create_index(
        "ix_events_unpublished", "events", ["position"], unique=False, postgresql_where=sa.text("seq IS NULL")
    )
    op.create_index("uq_events_task_id_task_version", "events", ["task_id", "task_version"], unique=True)
    op.create_table(
        "jobs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("arguments", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("state", sa.Text(), server_default="waiting", nullable=False),
        sa.Column("sends", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("attempts", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("run_after", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(done_at IS NOT NULL) = (state = 'done')", name=op.f("ck_jobs_done_at_when_done")),
        sa.CheckConstraint(
            "name IN ('test_celery_task', 'recompute_impact_score', 'purge_finished_jobs')",
            name=op.f("ck_jobs_name_known"),
        ),
        sa.CheckConstraint("state IN ('waiting', 'sent', 'done', 'dead')", name=op.f("ck_jobs_state_known")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
    )
    op.create_index(
        "ix_jobs_due",
        "jobs",
        ["run_after"],
        unique=False,
        postgresql_where=sa.text("state IN ('waiting', 'sent')"),
    )
    op.create_index("ix_jobs_finished", "jobs", ["done_at"], unique=False, postgresql_where=sa.text("state = 'done'"))
    op.create_table(
        "users",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), server_default="", nullable=False),
        sa.Column("skills", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("impact_score", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("is_active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("is_admin", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.CheckConstraint("impact_score >= 0", name=op.f("ck_users_impact_score_not_negative")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
    )
    op.create_index(
        "ix_users_directory",
        "users",
        ["display_name", "id"],
        unique=False,
        postgresql_where=sa.text("is_active"),
    )
    op.create_index("uq_users_email_lower", "users", [sa.literal_column("lower(email)")], unique=True)
    op.create_table(
        "tasks",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("status", sa.Text(), server_default="draft", nullable=False),
        sa.Column("category", sa.Text(), server_default="general", nullable=False),
        sa.Column("priority", sa.Text(), server_default="medium", nullable=False),
        sa.Column(
            "priority_rank",
            sa.SmallInteger(),
            sa.Computed(
                "CASE priority WHEN 'urgent'::text THEN 1 WHEN 'high'::text THEN 2 WHEN 'medium'::text THEN 3 ELSE 4 END",
                persisted=True,
            ),
            nullable=False,
        ),
        sa.Column("impact_points", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("assignee_id", sa.Uuid(), nullable=True),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.BigInteger(), server_default=sa.text("1"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.CheckConstraint(
            "(assignee_id IS NOT NULL) = (status IN ('in_progress', 'completed'))",
            name=op.f("ck_tasks_held_while_worked_on"),
        ),
        sa.CheckConstraint(
            "(completed_at IS NOT NULL) = (status = 'completed')",
            name=op.f("ck_tasks_completed_at_when_completed"),
        ),
        sa.CheckConstraint("priority IN ('urgent', 'high', 'medium', 'low')", name=op.f("ck_tasks_priority_known")),
        sa.CheckConstraint(
            "status IN ('draft', 'available', 'in_progress', 'completed')", name=op.f("ck_tasks_status_known")
        ),
        sa.CheckConstraint("impact_points >= 0", name=op.f("ck_tasks_impact_points_not_negative")),
        sa.ForeignKeyConstraint(["assignee_id"], ["users.id"], name=op.f("fk_tasks_assignee_id_users")),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_tasks_owner_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tasks")),
    )
    op.create_index(
        op.f("ix_tasks_assignee_id_created_at_id"), "tasks", ["assignee_id", "created_at", "id"], unique=False
    )
    op.create_index(op.f("ix_tasks_category_created_at_id"), "tasks", ["category", "created_at", "id"], unique=False)
    op.create_index(op.f("ix_tasks_created_at_id"), "tasks", ["created_at", "id"], unique=False)
    op.create_index(op.f("ix_tasks_due_at_id"), "tasks", ["due_at", "id"], unique=False)
    op.create_index(op.f("ix_tasks_owner_id_created_at_id"), "tasks", ["owner_id", "created_at", "id"], unique=False)
    op.create_index(op.f("ix_tasks_priority_rank_id"), "tasks", ["priority_rank", "id"], unique=False)
    op.create_index(
        "ix_tasks_search",
        "tasks",
        [sa.literal_column("to_tsvector('simple'::regconfig, (title || ' '::text) || description)")],
        unique=False,
        postgresql_using="gin",
    )
    op.create_index(op.f("ix_tasks_status_created_at_id"), "tasks", ["status", "created_at", "id"], unique=False)
    op.create_index(op.f("ix_tasks_updated_at_id"), "tasks", ["updated_at", "id"], unique=False)
    op.create_table(
        "user_task_associations",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("assigned_by", sa.Uuid(), nullable=False),
        sa.Column("assigned_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("released_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["assigned_by"], ["users.id"], name=op.f("fk_user_task_associations_assigned_by_users")
        ),
        sa.ForeignKeyConstraint(
            ["task_id"],
            ["tasks.id"],
            name=op.f("fk_user_task_associations_task_id_tasks"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_user_task_associations_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user_task_associations")),
    )
    op.create_index(
        op.f("ix_user_task_associations_task_id_assigned_at"),
        "user_task_associations",
        ["task_id", "assigned_at"],
        unique=False,
    )
    op.create_index(
        op.f("ix_user_task_associations_user_id_assigned_at"),
        "user_task_associations",
        ["user_id", "assigned_at"],
        unique=False,
    )
    op.create_index(
        "uq_user_task_associations_open",
        "user_task_associations",
        ["task_id"],
        unique=True,
        postgresql_where=sa.text("released_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_index(
        "uq_user_task_associations_open",
        table_name="user_task_associations",
        postgresql_where=sa.text("released_at IS NULL"),
    )
    op.drop_index(op.f("ix_user_task_associations_user_id_assigned_at"), table_name="user_task_associations")
    op.drop_index(op.f("ix_user_task_associations_task_id_assigned_at"), table_name="user_task_associations")
    op.drop_table("user_task_associations")
    op.drop_index(op.f("ix_tasks_updated_at_id"), table_name="tasks")
    op.drop_index(op.f("ix_tasks_status_created_at_id"), table_name="tasks")
    op.drop_index("ix_tasks_search", table_name="tasks", postgresql_using="gin")
    op.drop_index(op.f("ix_tasks_priority_rank_id"), table_name="tasks")
    op.drop_index(op.f("ix_tasks_owner_id_created_at_id"), table_name="tasks")
    op.drop_index(op.f("ix_tasks_due_at_id"), table_name="tasks")
    op.drop_index(op.f("ix_tasks_created_at_id"), table_name="tasks")
    op.drop_index(op.f("ix_tasks_category_created_at_id"), table_name="tasks")
    op.drop_index(op.f("ix_tasks_assignee_id_created_at_id"), table_name="tasks")
    op.drop_table("tasks")
    op.drop_index("uq_users_email_lower", table_name="users")
    op.drop_index("ix_users_directory", table_name="users", postgresql_where=sa.text("is_active"))
    op.drop_table("users")
    op.drop_index("ix_jobs_finished", table_name="jobs", postgresql_where=sa.text("state = 'done'"))
    op.drop_index("ix_jobs_due", table_name="jobs", postgresql_where=sa.text("state IN ('waiting', 'sent')"))
    op.drop_table("jobs")
    op.drop_index("uq_events_task_id_task_version", table_name="events")
    op.drop_index("ix_events_unpublished", table_name="events", postgresql_where=sa.text("seq IS NULL"))
    op.drop_table("events")
    op.drop_table("event_log")
