"""From a token, or an address and a password, to the account behind it."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from pydantic_core import PydanticCustomError
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import Forbidden, Unauthorized
from app.core.permissions import Actor
from app.core.security import InvalidToken, hash_password, password_matches, read_token
from app.database import Database
from app.limits.sign_ins import Attempt
from app.models import User, UserSession
from app.schemas.fields import normalize_email


class InvalidCredentials(Unauthorized):
    def __init__(self) -> None:
        super().__init__("The e-mail address or the password is wrong.", code="invalid_credentials")


class NotSignedIn(Unauthorized):
    """The same answer for every fault of a token, so that it tells nothing about what was tried."""

    def __init__(self) -> None:
        super().__init__("A valid access token is needed.")


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Who the token speaks for, until when, and of which session it is."""

    actor: Actor
    expires_at: datetime
    id: UUID


async def authenticate(session: AsyncSession, token: str, *, key: str) -> SignedIn:
    """Who the token speaks for. That of a session that has ended, or of a deactivated account, is dead at once.

    Raises:
        NotSignedIn: the token is not valid, its session has ended, or its account is no longer active.
    """
    try:
        access = read_token(token, key=key)
    except InvalidToken:
        raise NotSignedIn from None
    is_admin = await session.scalar(
        select(User.is_admin)
        .join(UserSession, UserSession.user_id == User.id)
        .where(UserSession.id == access.session_id, UserSession.expires_at > func.now())
        .where(User.id == access.user_id, User.is_active)
    )
    if is_admin is None:
        raise NotSignedIn
    return SignedIn(Actor(access.user_id, is_admin=is_admin), access.expires_at, access.session_id)


class WrongPassword(Forbidden):
    code = "wrong_password"

    def __init__(self) -> None:
        super().__init__("The current password is wrong.")


@dataclass(frozen=True, slots=True)
class PasswordProof:
    """That somebody knew the password of `checked_hash`, with the hash of the new one if there is one."""

    checked_hash: str
    new_hash: str | None


async def prove_password(
    database: Database, actor: Actor, password: str, *, new: str | None, attempt: Attempt
) -> PasswordProof:
    """Check the actor's password and hash the new one. No connection is held meanwhile.

    Raises:
        WrongPassword: it's another one.
        TooManyAttempts: too many were wrong, here or at sign-in.
    """
    async with database.unit_of_work() as session:
        user = await session.scalar(select(User).where(User.id == actor.id))
    if user is None:
        raise WrongPassword
    async with attempt(user.email):
        if not await password_matches(password, user.password_hash):
            raise WrongPassword
    return PasswordProof(user.password_hash, await hash_password(new) if new else None)


async def check_credentials(database: Database, email: str, password: str, attempt: Attempt) -> User:
    """Whose address and password these are. No connection is held while the password is checked.

    Raises:
        InvalidCredentials: after the same time whether or not there is such an account.
        TooManyAttempts: too many were wrong, also for an account that doesn't exist. Nothing was checked.
    """
    address = None
    # What is no address is no account's, and takes as long to be refused.
    with suppress(PydanticCustomError):
        address = normalize_email(email)
    async with attempt(address or email):
        found = await _find_active(database, address) if address else None
        if not await password_matches(password, found.password_hash if found else None) or found is None:
            raise InvalidCredentials
    return found


async def _find_active(database: Database, address: str) -> User | None:
    async with database.unit_of_work() as session:
        matching = select(User).where(func.lower(User.email) == func.lower(address), User.is_active)
        found: User | None = await session.scalar(matching)
    return found
