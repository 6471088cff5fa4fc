"""Emptying accounts that ended long ago: their rows stay, for events and tasks name them, and say nothing any more."""

from datetime import timedelta

from sqlalchemy import func, select

from app.db.purging import purge_some
from app.db.transaction import Transaction
from app.models import Notification, User

# So long a deactivation can be taken back, and the address stays taken.
KEEP = timedelta(days=30)
BATCH = 200
NOBODYS_NAME = "Ended account"


async def empty_ended_accounts(transaction: Transaction) -> bool:
    """Take name, address and password from some accounts that ended long enough ago; whether there may be more.

    Their addresses are free from then on.
    """
    # A process of the version before `deactivated_at` may have ended accounts after the migration, and left it null.
    ended_at = func.coalesce(User.deactivated_at, User.updated_at)
    ended = (
        select(User)
        .where(~User.is_active, User.emptied_at.is_(None), ended_at < func.now() - KEEP)
        .order_by(ended_at)
        .limit(BATCH)
        .with_for_update(key_share=True, skip_locked=True)
    )
    accounts = await transaction.scalars(ended)
    is_of_them = Notification.user_id.in_([user.id for user in accounts])
    if await purge_some(transaction, Notification, is_of_them):
        # What is left of them is for the next time, and the accounts with it.
        return True
    now = await transaction.scalar(select(func.now()))
    for user in accounts:
        user.email = None  # type: ignore[assignment]  # Its readers have people, and never one who was emptied.
        user.password_hash = None  # type: ignore[assignment]  # The same.
        user.display_name, user.role, user.skills, user.time_zone = NOBODYS_NAME, "", [], "UTC"
        user.is_admin = user.mail_notifications = False
        user.emptied_at = now
        user.version += 1
    return len(accounts) == BATCH
