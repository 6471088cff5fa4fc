"""The kind of notification that tells a new owner of what was handed over to them.

Revision: 0023
After: 0022
"""

from collections.abc import Sequence

from alembic import op

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
    """Validated in a statement of its own, which takes no lock that writers would wait for."""
    name, listed = op.f("ck_notifications_kind_known"), ", ".join(f"'{kind}'" for kind in kinds)
    op.drop_constraint(name, "notifications")
    op.create_check_constraint(name, "notifications", f"kind IN ({listed})", postgresql_not_valid=True)
    with op.get_context().autocommit_block():
        op.execute(f"ALTER TABLE notifications VALIDATE CONSTRAINT {name}")
