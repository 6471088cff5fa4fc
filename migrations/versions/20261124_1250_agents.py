"""Agents: accounts of programs.

Revision: 0012
After: 0011
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0012"
down_revision: str | None = "0011"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

PERSON_OR_AGENT = "(owner_id IS NULL) = (email IS NOT NULL) AND (owner_id IS NULL) = (password_hash IS NOT NULL) AND (owner_id IS NULL OR NOT (is_admin OR mail_notifications))"


def upgrade() -> None:
    op.add_column("users", sa.Column("owner_id", sa.Uuid(), nullable=True))
    op.alter_column("users", "email", nullable=True)
    op.alter_column("users", "password_hash", nullable=True)
    # Rows that are there needn't be looked through while nobody else can use the table; the next revision does that.
    op.create_foreign_key(
        op.f("fk_users_owner_id_users"), "users", "users", ["owner_id"], ["id"], postgresql_not_valid=True
    )
    op.create_check_constraint(op.f("ck_users_person_or_agent"), "users", PERSON_OR_AGENT, postgresql_not_valid=True)
    op.create_index(
        "ix_users_agents",
        "users",
        ["owner_id", "created_at", "id"],
        unique=False,
        postgresql_where=sa.text("owner_id IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_users_agents", table_name="users", postgresql_where=sa.text("owner_id IS NOT NULL"))
    op.drop_constraint(op.f("ck_users_person_or_agent"), "users")
    op.drop_constraint(op.f("fk_users_owner_id_users"), "users")
    # Tasks and events name them, so they stay, as accounts that have ended and that nobody can sign in to.
    op.execute(
        "UPDATE users SET is_active = false, email = id || '@agent.invalid', password_hash = '' WHERE owner_id IS NOT NULL"
    )
    op.alter_column("users", "password_hash", nullable=False)
    op.alter_column("users", "email", nullable=False)
    op.drop_column("users", "owner_id")
