"""The points of completed tasks that were deleted.

Revision: 0017
After: 0016
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0017"
down_revision: str | None = "0016"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "earned_points",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("points", sa.BigInteger(), nullable=False),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("points >= 0", name=op.f("ck_earned_points_points_not_negative")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_earned_points_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_earned_points")),
        sa.UniqueConstraint("task_id", name=op.f("uq_earned_points_task_id")),
    )
    op.create_index(
        op.f("ix_earned_points_user_id_completed_at"), "earned_points", ["user_id", "completed_at"], unique=False
    )


def downgrade() -> None:
    op.drop_table("earned_points")
