"""From a token, or an address and a password, to the account behind it."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog
from pydantic_core import PydanticCustomError
from sqlalchemy import ColumnElement, Interval, Select, bindparam, func, or_, select, type_coerce, update

from app.core.addresses import address_key
from app.core.errors import Forbidden, HiveError, MalformedInput, Unauthorized
from app.core.passwords import refuse_own_names
from app.core.permissions import Actor
from app.core.security import InvalidToken, hash_password, hash_secret, password_matches, read_token
from app.database import Database
from app.db.statements import keep
from app.db.transaction import Transaction
from app.events.jobs import ask_once
from app.limits.sign_ins import Attempt, Tally
from app.models import ApiToken, JobName, Scope, User, UserSession
from app.schemas.fields import normalize_email
from app.schemas.user import UserUpdate

# So that a token that was lost is known for one, by people and by programs that look for such things.
API_TOKEN_PREFIX = "hive_"  # noqa: S105  # The beginning that all of them share is no secret.
# How exactly the last use of an API token is told: not each request writes to its row.
NOTES_USE_EACH = timedelta(minutes=5)
NEVER = datetime.max.replace(tzinfo=UTC)

log = structlog.stdlib.get_logger("hive.security")


class InvalidCredentials(Unauthorized):
    def __init__(self) -> None:
        super().__init__("The e-mail address or the password is wrong.", code="invalid_credentials")


class NotSignedIn(Unauthorized):
    """One answer for every fault of a token, so that it tells nothing about what was tried."""

    def __init__(self) -> None:
        super().__init__("A valid access token is needed.")


class NotForTokens(Forbidden):
    code = "not_for_tokens"

    def __init__(self) -> None:
        super().__init__("An API token can't be used for this; it needs somebody who has signed in.")


class InsufficientScope(Forbidden):
    code = "insufficient_scope"

    def __init__(self, scope: Scope) -> None:
        challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
        super().__init__(
            f"The token lacks the scope {scope}.", headers={"WWW-Authenticate": challenge}, needed_scope=scope
        )


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Whom a token speaks for, until when by this machine's clock, and the session or API token that it is of.

    `scopes` are those of an API token; a session has none, and is not narrowed. `owner_id` is whose agent it is.
    `is_to_note` says that the token wasn't noted as used for a while.
    """

    actor: Actor
    expires_at: datetime
    id: UUID
    scopes: frozenset[str] | None = None
    owner_id: UUID | None = None
    is_to_note: bool = field(default=False, compare=False)

    @property
    def person_id(self) -> UUID:
        """The account, or of an agent its owner."""
        return self.owner_id or self.actor.id

    def require_session(self) -> None:
        """Raises `NotForTokens` if it's an API token."""
        if self.scopes is not None:
            raise NotForTokens

    def require(self, scope: Scope) -> None:
        """Raises `InsufficientScope` if it's an API token that lacks it."""
        if self.scopes is not None and scope not in self.scopes:
            raise InsufficientScope(scope)


async def authenticate(transaction: Transaction, token: str, *, key: str) -> SignedIn:
    """Return whom the token speaks for. One that was revoked, or whose session or account ended, is invalid.

    Raises:
        NotSignedIn: the token is not valid, or was revoked.
    """
    if token.startswith(API_TOKEN_PREFIX):
        return await _by_api_token(transaction, token)
    return await _by_access_token(transaction, token, key=key)


async def _by_api_token(transaction: Transaction, token: str) -> SignedIn:
    found = await find_api_token(transaction, _TOKEN_BY_HASH, token_hash=hash_secret(token))
    if found is None:
        raise NotSignedIn
    return found


_IS_UNNOTED = or_(
    ApiToken.last_used_at.is_(None), ApiToken.last_used_at < func.now() - bindparam("noted_each", type_=Interval())
)


def _token_by(which: ColumnElement[bool]) -> Select[ApiToken, User, bool, timedelta]:
    left = type_coerce(ApiToken.expires_at - func.clock_timestamp(), Interval())
    return keep(
        select(ApiToken, User, _IS_UNNOTED, left)
        .join(User, User.id == ApiToken.user_id)
        .where(which, User.is_active)
        .where(or_(ApiToken.expires_at.is_(None), ApiToken.expires_at > func.now()))
    )


_TOKEN_BY_HASH = _token_by(ApiToken.hash == bindparam("token_hash"))
TOKEN_BY_ID = _token_by(ApiToken.id == bindparam("token_id"))
_NOTE_USE = keep(
    update(ApiToken).where(ApiToken.id == bindparam("used_id"), _IS_UNNOTED).values(last_used_at=func.now())
)
# Made once: to look up who asks is part of every socket and stream, and of many a change.
_ACTOR_OF_SESSION = keep(
    select(User.id, User.is_admin)
    .join(UserSession, UserSession.user_id == User.id)
    .where(UserSession.id == bindparam("session_id"), UserSession.expires_at > func.now(), User.is_active)
)


async def find_api_token(
    transaction: Transaction, by: Select[ApiToken, User, bool, timedelta], **which: object
) -> SignedIn | None:
    """Find whom a valid API token speaks for."""
    row = await transaction.first(by, {"noted_each": NOTES_USE_EACH} | which)
    if row is None:
        return None
    held, user, is_unnoted, lifetime = row
    # How long it holds is PostgreSQL's word; when that is over is measured by this machine's clock.
    expires_at = NEVER if lifetime is None else datetime.now(UTC) + lifetime
    scopes = frozenset(held.scopes)
    return SignedIn(Actor.of(user), expires_at, held.id, scopes, user.owner_id, is_to_note=is_unnoted)


async def note_use(transaction: Transaction, signed_in: SignedIn) -> None:
    """Note that the API token was used, if that wasn't noted for a while."""
    if signed_in.is_to_note:
        await transaction.execute(_NOTE_USE, {"noted_each": NOTES_USE_EACH, "used_id": signed_in.id})


async def _by_access_token(transaction: Transaction, token: str, *, key: str) -> SignedIn:
    try:
        access = read_token(token, key=key)
    except InvalidToken:
        raise NotSignedIn from None
    actor = await find_actor_of_session(transaction, access.session_id)
    if actor is None or actor.id != access.user_id:
        raise NotSignedIn
    return SignedIn(actor, access.expires_at, access.session_id)


async def find_actor_of_session(transaction: Transaction, session_id: UUID) -> Actor | None:
    """Whose session it is, if it goes on."""
    row = await transaction.first(_ACTOR_OF_SESSION, {"session_id": session_id})
    if row is None:
        return None
    user_id, is_admin = row
    return Actor(user_id, is_admin=is_admin)


class WrongPassword(Forbidden):
    code = "wrong_password"

    def __init__(self) -> None:
        super().__init__("The current password is wrong.")


class CurrentPasswordRequired(MalformedInput):
    def __init__(self) -> None:
        super().__init__(
            "A new e-mail address or password needs current_password.",
            field="current_password",
            where="body",
            code="current_password_required",
        )


@dataclass(frozen=True, slots=True)
class PasswordProof:
    """That somebody knew the password of `checked_hash`, with the hash of the new one if there is one."""

    checked_hash: str
    new_hash: str | None


async def prove_change(
    database: Database, actor: Actor, changes: UserUpdate, *, attempt: Attempt
) -> PasswordProof | None:
    """Check the current password if these changes of the actor's account need it; None if they don't.

    Another spelling of the same address is stored if the password is given, and is no change otherwise.

    Raises:
        CurrentPasswordRequired: they do, and it's missing.
        PasswordNamesAccount: the new password is the account's own name or address.
        WrongPassword, TooManyAttempts: as `prove_password` does.
    """
    if not changes.names_credentials:
        return None
    async with database.unit_of_work(is_reading=True) as transaction:
        user = await transaction.get(User, actor.id)
    if user is None:
        raise WrongPassword
    is_respelled = bool(changes.current_password) and changes.email != user.email
    if not is_respelled and not changes.changes_credentials_of(user.email):
        return None
    if not changes.current_password:
        raise CurrentPasswordRequired
    if changes.new_password:
        addresses, names = changes.own_names_with(user)
        refuse_own_names(changes.new_password, addresses=addresses, names=names)
    return await prove_password(database, actor, changes.current_password, new=changes.new_password, attempt=attempt)


async def prove_password(
    database: Database, actor: Actor, password: str, *, new: str | None, attempt: Attempt
) -> PasswordProof:
    """Check the actor's password and hash the new one. No connection is held meanwhile.

    Raises:
        WrongPassword: it's another one.
        TooManyAttempts: too many were wrong, here or at sign-in.
    """
    async with database.unit_of_work(is_reading=True) as transaction:
        user = await transaction.get(User, actor.id)
    if user is None:
        raise WrongPassword
    async with _telling_owner(database, attempt(user.email_key)) as target:
        target.user = user
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
    async with _telling_owner(database, attempt(address_key(address or email))) as target:
        found = target.user = await _find_active(database, address_key(address)) if address else None
        if not await password_matches(password, found.password_hash if found else None) or found is None:
            raise InvalidCredentials
    return found


@dataclass(slots=True)
class _Target:
    """Whose password was tried; None for nobody's."""

    user: User | None = None


@asynccontextmanager
async def _telling_owner(database: Database, attempt: AbstractAsyncContextManager[Tally]) -> AsyncIterator[_Target]:
    """Make the attempt, and tell the account's owner, once a day, if there were many that failed."""
    target, tally = _Target(), Tally()
    try:
        async with attempt as tally:
            yield target
    except HiveError as error:
        log.info("sign-in refused", code=error.error_code, account_id=str(target.user.id) if target.user else None)
        if tally.are_many:
            await _ask_to_tell(database, target.user)
        raise


async def _ask_to_tell(database: Database, user: User | None) -> None:
    # Where there is no such account, as much is asked of the database.
    async with database.unit_of_work() as transaction:
        day = await transaction.scalar(select(func.to_char(func.now(), "YYYY-MM-DD")))
        if user is not None:
            key = f"{user.id}/{day}"
            await ask_once(transaction, JobName.TELL_OF_FAILED_SIGN_INS, key=key, user_id=str(user.id))


async def _find_active(database: Database, key: str) -> User | None:
    async with database.unit_of_work(is_reading=True) as transaction:
        matching = select(User).where(User.email_key == key, User.is_active)
        found: User | None = await transaction.scalar(matching)
    return found
