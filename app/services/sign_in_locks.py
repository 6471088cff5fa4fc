"""Keeping a sign-in from ending before what is made by it is there to end with it."""

from sqlalchemy import select

from app.core.auth import NotSignedIn, SignedIn
from app.db.transaction import Transaction
from app.models import ApiToken, User, UserSession


async def lock_sign_in(transaction: Transaction, signed_in: SignedIn) -> None:
    """Keep the session or API token from ending before the transaction does.

    Raises:
        NotSignedIn: it has ended meanwhile.
    """
    held = UserSession.id if signed_in.scopes is None else ApiToken.id
    locked = select(held).where(held == signed_in.id).with_for_update(read=True, key_share=True)
    if await transaction.scalar(locked) is None:
        raise NotSignedIn


async def lock_account_and_sign_in(transaction: Transaction, signed_in: SignedIn) -> None:
    """Keep the password and the end of the account, too, from changing; others who do this wait.

    A change of the password, which revokes all tokens, either sees what is made after this, or is seen here.

    Raises:
        NotSignedIn: the sign-in or the account has ended meanwhile.
    """
    # The account before all else, as a change of the password locks it.
    active = select(User.id).where(User.id == signed_in.actor.id, User.is_active)
    if await transaction.scalar(active.with_for_update(key_share=True)) is None:
        raise NotSignedIn
    # A statement of its own: one that had waited for the account would find a session as it was before the wait.
    await lock_sign_in(transaction, signed_in)
