"""Keeping a sign-in from ending before what is made by it is there to end with it."""

from sqlalchemy import bindparam, select

from app.core.auth import NotSignedIn, SignedIn
from app.db.statements import keep
from app.db.transaction import Transaction
from app.models import ApiToken, User, UserSession

_LOCK_SESSION, _LOCK_TOKEN = (
    keep(select(held.id).where(held.id == bindparam("sign_in_id")).with_for_update(read=True, key_share=True))
    for held in (UserSession, ApiToken)
)
_LOCK_ACTIVE = keep(
    select(User.id).where(User.id == bindparam("user_id"), User.is_active).with_for_update(key_share=True)
)


async def lock_sign_in(transaction: Transaction, signed_in: SignedIn) -> None:
    """Keep the session or API token from ending before the transaction does.

    Raises:
        NotSignedIn: it has ended meanwhile.
    """
    lock = _LOCK_SESSION if signed_in.scopes is None else _LOCK_TOKEN
    if await transaction.scalar(lock, {"sign_in_id": signed_in.id}) is None:
        raise NotSignedIn


async def lock_account_and_sign_in(transaction: Transaction, signed_in: SignedIn) -> None:
    """Keep the password and the end of the account, too, from changing; others who do this wait.

    A change of the password, which revokes all tokens, either sees what is made after this, or is seen here.

    Raises:
        NotSignedIn: the sign-in or the account has ended meanwhile.
    """
    # The account before all else, as a change of the password locks it.
    if await transaction.scalar(_LOCK_ACTIVE, {"user_id": signed_in.actor.id}) is None:
        raise NotSignedIn
    # A statement of its own: one that had waited for the account would find a session as it was before the wait.
    await lock_sign_in(transaction, signed_in)
