"""Tickets for streams of events.

Revision: 0018
After: 0017
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0018"
down_revision: str | None = "0017"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "event_tickets",
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=True),
        sa.Column("api_token_id", sa.Uuid(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("access_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("num_nonnulls(session_id, api_token_id) = 1", name=op.f("ck_event_tickets_one_sign_in")),
        sa.ForeignKeyConstraint(
            ["api_token_id"],
            ["api_tokens.id"],
            name=op.f("fk_event_tickets_api_token_id_api_tokens"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["session_id"], ["sessions.id"], name=op.f("fk_event_tickets_session_id_sessions"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_event_tickets")),
    )
    op.create_index(op.f("ix_event_tickets_api_token_id"), "event_tickets", ["api_token_id"], unique=False)
    op.create_index(op.f("ix_event_tickets_expires_at"), "event_tickets", ["expires_at"], unique=False)
    op.create_index(op.f("ix_event_tickets_session_id"), "event_tickets", ["session_id"], unique=False)


def downgrade() -> None:
    op.drop_table("event_tickets")
