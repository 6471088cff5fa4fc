"""Each key of an address is one account's.

Revision: 0016
After: 0015
"""

import unicodedata
from collections.abc import Sequence

import sqlalchemy as sa
from alembic import context, op
from alembic.util import CommandError

revision: str = "0016"
down_revision: str | None = "0015"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

BATCH = 5_000
UNFILLED = sa.text("SELECT id, email FROM users WHERE email IS NOT NULL AND email_key IS NULL LIMIT :batch")
FILL = sa.text(
    "UPDATE users SET email_key = given.key"
    " FROM unnest(CAST(:ids AS uuid[]), CAST(:keys AS text[])) AS given (id, key) WHERE users.id = given.id"
)


def upgrade() -> None:
    if context.is_offline_mode():
        raise CommandError("this revision reads the addresses of accounts and can't be written as SQL")
    connection = op.get_bind()
    # Most of it while others go on working, and the rest, which came meanwhile, while they wait.
    fill(connection)
    op.execute("LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE")
    fill(connection)
    op.create_unique_constraint(op.f("uq_users_email_key"), "users", ["email_key"])
    op.create_check_constraint(op.f("ck_users_email_has_key"), "users", "(email IS NULL) = (email_key IS NULL)")
    op.drop_index("uq_users_email_lower", table_name="users")


def fill(connection: sa.Connection) -> None:
    while rows := connection.execute(UNFILLED, {"batch": BATCH}).all():
        keys = [key_of(email) for _, email in rows]
        connection.execute(FILL, {"ids": [row_id for row_id, _ in rows], "keys": keys})


def key_of(address: str) -> str:
    """What `address_key` in `app/core/addresses.py` made when this was written."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", address).casefold())


def downgrade() -> None:
    op.create_index("uq_users_email_lower", "users", [sa.literal_column("lower(email)")], unique=True)
    op.drop_constraint(op.f("ck_users_email_has_key"), "users")
    op.drop_constraint(op.f("uq_users_email_key"), "users")
    # So that the way up again fills in what was changed meanwhile.
    op.execute("UPDATE users SET email_key = NULL")
