"""The end of an account, a person's or an agent's, with all that it holds."""

from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.permissions import Actor
from app.events import outbox
from app.events.types import AccountDeactivated
from app.models import ApiToken, User, UserSession
from app.services.assignment_service import AssignmentService


async def end_account(session: AsyncSession, account: User, *, by: Actor) -> None:
    """Deactivate the account, which is locked: its tokens and sockets die, its work in progress becomes available."""
    account.is_active = False
    account.version += 1
    await session.flush()
    await AssignmentService(session).release_all(by, held_by=account.id)
    for held in (UserSession, ApiToken):
        await session.execute(delete(held).where(held.user_id == account.id))
    # Each process ends what is open of the event's actor, so that is the account, whoever has ended it.
    event = AccountDeactivated(user_id=account.id)
    await outbox.record(session, event, actor=Actor.of(account), audience=[])
