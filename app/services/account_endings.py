"""The end of an account, a person's or an agent's, with all that it holds."""

from collections.abc import Sequence

from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.permissions import Actor
from app.events import outbox
from app.events.types import AccountDeactivated
from app.models import ApiToken, User, UserSession
from app.services.assignment_service import AssignmentService
from app.services.sign_in_endings import forget_after_commit


async def end_accounts(session: AsyncSession, accounts: Sequence[User], *, by: Actor) -> None:
    """Deactivate accounts, which are locked: tokens and sockets die, and work in progress becomes available."""
    for account in accounts:
        account.is_active = False
        account.version += 1
    await session.flush()
    # All tasks together, so that they are locked in the order of their ids.
    await AssignmentService(session).release_all(by, held_by=[account.id for account in accounts])
    for account in accounts:
        await _end_sign_ins(session, account)


async def _end_sign_ins(session: AsyncSession, account: User) -> None:
    for held in (UserSession, ApiToken):
        await session.execute(delete(held).where(held.user_id == account.id))
    forget_after_commit(session, [account.id])
    # Each process ends what is open of the event's actor, so that is the account, whoever has ended it.
    event = AccountDeactivated(user_id=account.id)
    await outbox.record(session, event, actor=Actor.of(account), audience=[])
