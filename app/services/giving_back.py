"""Giving back what ended accounts hold, piece by piece. See ADR 50."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from app.core.permissions import Actor
from app.db.transaction import Transaction
from app.events.jobs import ask_for_job
from app.models import JobName
from app.services.assignment_service import AssignmentService

# Each task brings an event, and with it a notification.
PIECE = 500


async def give_back(transaction: Transaction, actor: Actor, *, held_by: Sequence[UUID], until: datetime) -> None:
    """Give back some of what these accounts have held since before `until`, and have a job go on if there is more.

    It can be repeated after a crash: what was given back is not theirs any more.
    """
    if await AssignmentService(transaction).release_some(actor, held_by=held_by, until=until, most=PIECE):
        ask_for_job(
            transaction,
            JobName.GIVE_BACK_TASKS,
            account_ids=[str(account_id) for account_id in held_by],
            until=until.isoformat(),
            actor_id=str(actor.id),
            actor_type=actor.type,
        )
