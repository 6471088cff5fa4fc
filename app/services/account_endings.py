"""The end of an account, a person's or an agent's, with all that it holds."""

from collections.abc import Sequence

from sqlalchemy import delete, func, select

from app.core.errors import Conflict
from app.core.permissions import Actor
from app.core.security_log import note
from app.db.transaction import Transaction
from app.events import outbox
from app.events.types import AccountDeactivated
from app.models import ApiToken, User, UserSession
from app.services.account_locks import LOCK_ORDER
from app.services.giving_back import give_back
from app.services.sign_in_endings import forget_after_commit


class LastAdmin(Conflict):
    code = "last_admin"

    def __init__(self) -> None:
        super().__init__("This is the last active admin; make somebody else one first.")


async def require_other_admin(transaction: Transaction, user: User) -> None:
    """Raises `LastAdmin` if the account is the only active admin there is. The admins are locked."""
    if not user.is_admin:
        return
    other = select(User.id).where(User.is_admin, User.is_active, User.id != user.id).limit(1)
    if await transaction.scalar(other) is None:
        raise LastAdmin


async def end_account_and_agents(transaction: Transaction, user: User, *, by: Actor) -> None:
    """End an account, which is locked, and those of its agents."""
    own = select(User).where(User.owner_id == user.id, User.is_active).order_by(*LOCK_ORDER)
    # All accounts are locked before any task, as everything that changes a holder does.
    agents = await transaction.scalars(own.with_for_update(key_share=True))
    await end_accounts(transaction, [*agents, user], by=by)


async def end_accounts(transaction: Transaction, accounts: Sequence[User], *, by: Actor) -> None:
    """Deactivate accounts, which are locked: tokens and sockets die, and work in progress becomes available.

    Of much work, some becomes available at once, and the rest by a job.
    """
    now = await transaction.scalar(select(func.now()))
    for account in accounts:
        account.is_active = False
        account.deactivated_at = now
        account.version += 1
    await transaction.flush()
    # Not `now()`: somebody may have taken a task since this transaction began, and before the accounts were locked.
    [ended_at] = await transaction.scalars(select(func.clock_timestamp()))
    # All tasks together, so that they are locked in the order of their ids.
    await give_back(transaction, by, held_by=[account.id for account in accounts], until=ended_at)
    for account in accounts:
        note(transaction.info, "account ended", account_id=account.id)
        await _end_sign_ins(transaction, account)


async def _end_sign_ins(transaction: Transaction, account: User) -> None:
    for held in (UserSession, ApiToken):
        # In one order, as when somebody ends several of their own.
        own = select(held.id).where(held.user_id == account.id).order_by(held.id).with_for_update()
        await transaction.execute(delete(held).where(held.id.in_(own)))
    forget_after_commit(transaction, [account.id])
    # Each process ends what is open of the event's actor, so that is the account, also when an operator has ended it.
    event = AccountDeactivated(user_id=account.id)
    await outbox.record(transaction, event, actor=Actor.of(account), audience=[])
