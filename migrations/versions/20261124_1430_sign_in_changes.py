"""What has changed about sign-ins, noted by the database itself.

Revision: 0014
After: 0013
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0014"
down_revision: str | None = "0013"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

NOTE = """
CREATE FUNCTION note_sign_in_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        -- About everybody.
        INSERT INTO sign_in_changes (subject) VALUES ('00000000-0000-0000-0000-000000000000');
    ELSE
        INSERT INTO sign_in_changes (subject) VALUES (OLD.id);
    END IF;
    RETURN NULL;
END
$$
"""
# What a look-up of a token reads, and nothing else: the last use of a token is noted all the time.
WATCHED = {
    "sessions": "UPDATE OF user_id, expires_at ON sessions FOR EACH ROW"
    " WHEN (OLD.user_id <> NEW.user_id OR OLD.expires_at > NEW.expires_at)",
    "api_tokens": "UPDATE OF user_id, hash, scopes, expires_at ON api_tokens FOR EACH ROW",
    "users": "UPDATE OF is_active, is_admin, owner_id ON users FOR EACH ROW WHEN"
    " ((OLD.is_active, OLD.is_admin, OLD.owner_id) IS DISTINCT FROM (NEW.is_active, NEW.is_admin, NEW.owner_id))",
}


def upgrade() -> None:
    op.create_table(
        "sign_in_changes",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("subject", sa.Uuid(), nullable=False),
        sa.Column(
            "xact", sa.BigInteger(), server_default=sa.text("pg_current_xact_id()::text::bigint"), nullable=False
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sign_in_changes")),
    )
    op.create_index(op.f("ix_sign_in_changes_xact"), "sign_in_changes", ["xact"], unique=False)
    op.execute(NOTE)
    for table, change in WATCHED.items():
        deletion = f"DELETE ON {table} FOR EACH ROW"
        op.execute(f"CREATE TRIGGER note_change AFTER {change} EXECUTE FUNCTION note_sign_in_change()")
        op.execute(f"CREATE TRIGGER note_deletion AFTER {deletion} EXECUTE FUNCTION note_sign_in_change()")
        emptying = f"TRUNCATE ON {table} FOR EACH STATEMENT"
        op.execute(f"CREATE TRIGGER note_emptying AFTER {emptying} EXECUTE FUNCTION note_sign_in_change()")


def downgrade() -> None:
    for table in WATCHED:
        op.execute(f"DROP TRIGGER note_change ON {table}")
        op.execute(f"DROP TRIGGER note_deletion ON {table}")
        op.execute(f"DROP TRIGGER note_emptying ON {table}")
    op.execute("DROP FUNCTION note_sign_in_change()")
    op.drop_table("sign_in_changes")
