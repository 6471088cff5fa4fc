"""The kind of notification that tells a new owner of what was handed over to them.

Revision: 0023
After: 0022
"""

from collections.abc import Sequence

from alembic import op

from migrations.online import online, replace_check

revision: str = "0023"
down_revision: str | None = "0022"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

BEFORE = (
    "assigned",
    "unassigned",
    "mentioned",
    "claimed",
    "completed",
    "reopened",
    "released",
    "due_in_a_day",
    "due_in_an_hour",
)


def upgrade() -> None:
    know((*BEFORE, "handed_over"))


def downgrade() -> None:
    op.execute("DELETE FROM notifications WHERE kind = 'handed_over'")
    know(BEFORE)


def know(kinds: Sequence[str]) -> None:
    listed = ", ".join(f"'{kind}'" for kind in kinds)
    with online():
        replace_check("notifications", "ck_notifications_kind_known", f"kind IN ({listed})")
