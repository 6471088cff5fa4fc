"""What e-mail addresses are compared by.

Revision: 0015
After: 0014
"""

import unicodedata
from collections import defaultdict
from collections.abc import Sequence

import sqlalchemy as sa
from alembic import context, op
from alembic.util import CommandError

revision: str = "0015"
down_revision: str | None = "0014"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

MOST_TOLD = 20


def upgrade() -> None:
    if not context.is_offline_mode():
        refuse_accounts_of_one_address(op.get_bind())
    op.add_column("users", sa.Column("email_key", sa.Text(), nullable=True))


def refuse_accounts_of_one_address(connection: sa.Connection) -> None:
    """Raises CommandError, before anything is changed, if accounts differ in the case of their address alone."""
    spellings = defaultdict(list)
    for (email,) in connection.execute(sa.text("SELECT email FROM users WHERE email IS NOT NULL ORDER BY created_at")):
        spellings[key_of(email)].append(email)
    shared = [" and ".join(emails) for emails in spellings.values() if len(emails) > 1]
    if shared:
        told = "; ".join(shared[:MOST_TOLD]) + ("; and others" if len(shared) > MOST_TOLD else "")
        raise CommandError(
            f"accounts whose addresses differ in case alone would become one: {told}. Nothing was changed;"
            " give all but one of each another address, and migrate again."
        )


def key_of(address: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", address).casefold())


def downgrade() -> None:
    op.drop_column("users", "email_key")
