"""The audit log, when accounts ended, and the event of an account's other rights.

Revision: 0024
After: 0023
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.online import add_column, fill, online, replace_check, replace_indexes

revision: str = "0024"
down_revision: str | None = "0023"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TYPES = "'task.created', 'task.updated', 'task.deleted', 'task.assigned', 'task.unassigned', 'task.status_changed', 'task.lease_expired', 'task.blocked', 'task.unblocked', 'task.ready', 'chat.message', 'user.online', 'user.offline', 'notification.created', 'notification.read', 'account.deactivated', 'sign_in.ended', 'log.renewed'"
ACTIONS = "action IN ('user.created', 'user.deactivated', 'user.reactivated', 'user.promoted', 'user.demoted', 'user.password_set', 'user.signed_out', 'user.handed_over')"
JOBS = "'test_celery_task', 'recompute_impact_score', 'notify', 'send_mail', 'expire_lease', 'remind_of_due_tasks', 'index_tasks', 'purge_events', 'purge_notifications', 'purge_idempotent_requests', 'purge_finished_jobs'"
PERSON_OR_AGENT = (
    "(owner_id IS NULL) = (email IS NOT NULL) AND (owner_id IS NULL) = (password_hash IS NOT NULL)"
    " AND (owner_id IS NULL OR NOT (is_admin OR mail_notifications))"
)
PERSON_OR_AGENT_OR_EMPTIED = (
    "(owner_id IS NULL AND emptied_at IS NULL) = (email IS NOT NULL)"
    " AND (owner_id IS NULL AND emptied_at IS NULL) = (password_hash IS NOT NULL)"
    " AND (owner_id IS NULL OR NOT (is_admin OR mail_notifications))"
)
INDEXES = {
    "ix_users_ended": "users (deactivated_at) WHERE NOT is_active AND emptied_at IS NULL",
    "ix_users_created_at_id": "users (created_at, id)",
}
REFUSE = """
CREATE FUNCTION refuse_change_of_audit_log() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is only ever added to';
END
$$
"""


def upgrade() -> None:
    with online():
        add_column("users", "deactivated_at", "timestamptz")
        add_column("users", "emptied_at", "timestamptz")
        # When they ended is not known, so what they are called is kept as long as that of those who end now.
        fill("users", "deactivated_at = now()", "NOT is_active AND deactivated_at IS NULL")
        replace_check("users", "ck_users_person_or_agent", PERSON_OR_AGENT_OR_EMPTIED)
        replace_check("users", "ck_users_emptied_has_ended", "emptied_at IS NULL OR NOT is_active")
        replace_indexes({}, INDEXES)
        replace_check("events", "ck_events_type_known", f"type IN ({TYPES}, 'account.changed')")
        replace_check("jobs", "ck_jobs_name_known", f"name IN ({JOBS}, 'empty_ended_accounts')")
    op.create_table(
        "audit_log",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("actor_id", sa.Uuid(), nullable=True),
        sa.Column("subject_id", sa.Uuid(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("data", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(ACTIONS, name=op.f("ck_audit_log_action_known")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
    )
    op.create_index(op.f("ix_audit_log_created_at_id"), "audit_log", ["created_at", "id"], unique=False)
    op.create_index(
        op.f("ix_audit_log_subject_id_created_at_id"), "audit_log", ["subject_id", "created_at", "id"], unique=False
    )
    op.execute(REFUSE)
    for event, level in (("UPDATE OR DELETE", "ROW"), ("TRUNCATE", "STATEMENT")):
        op.execute(
            f"CREATE TRIGGER refuse_{level.lower()} BEFORE {event} ON audit_log"
            f" FOR EACH {level} EXECUTE FUNCTION refuse_change_of_audit_log()"
        )


def downgrade() -> None:
    op.execute("DELETE FROM jobs WHERE name = 'empty_ended_accounts'")
    op.drop_constraint(op.f("ck_jobs_name_known"), "jobs")
    op.create_check_constraint(op.f("ck_jobs_name_known"), "jobs", f"name IN ({JOBS})")
    op.execute("DELETE FROM events WHERE type = 'account.changed'")
    op.drop_constraint(op.f("ck_events_type_known"), "events")
    op.create_check_constraint(op.f("ck_events_type_known"), "events", f"type IN ({TYPES})")
    op.drop_index(op.f("ix_users_created_at_id"), table_name="users")
    op.drop_index("ix_users_ended", table_name="users")
    op.drop_constraint(op.f("ck_users_emptied_has_ended"), "users")
    op.drop_constraint(op.f("ck_users_person_or_agent"), "users")
    # Tasks and events name them, so they stay, as accounts that have ended and that nobody can sign in to.
    op.execute(
        "UPDATE users SET email = id || '@ended.invalid', email_key = id || '@ended.invalid', password_hash = ''"
        " WHERE emptied_at IS NOT NULL AND owner_id IS NULL"
    )
    op.create_check_constraint(op.f("ck_users_person_or_agent"), "users", PERSON_OR_AGENT, postgresql_not_valid=True)
    op.drop_column("users", "emptied_at")
    op.drop_column("users", "deactivated_at")
    op.drop_table("audit_log")
    op.execute("DROP FUNCTION refuse_change_of_audit_log()")
