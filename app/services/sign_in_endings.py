"""Telling every process that sessions or tokens have ended, so that it closes what was opened with them."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from app.core.permissions import Actor
from app.db.transaction import ENDED_SIGN_INS, Transaction
from app.events import outbox
from app.events.types import SignInEnded

# An event has to stay a small message, so one tells of so many at most.
TOLD_AT_ONCE = 500


def forget_after_commit(transaction: Transaction, ids: Iterable[UUID]) -> None:
    """Make this process forget the sign-ins before it answers."""
    transaction.info.setdefault(ENDED_SIGN_INS, set()).update(ids)


async def tell_of_ended_sign_ins(transaction: Transaction, ids: Sequence[UUID], *, user_id: UUID, actor: Actor) -> None:
    """`user_id` is whose they were, `actor` who ended them."""
    forget_after_commit(transaction, ids)
    for begin in range(0, len(ids), TOLD_AT_ONCE):
        event = SignInEnded(user_id=user_id, sign_in_ids=list(ids[begin : begin + TOLD_AT_ONCE]))
        await outbox.record(transaction, event, actor=actor, audience=[])
