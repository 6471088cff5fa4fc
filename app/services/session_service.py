from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, Integer, Interval, bindparam, delete, func, select

from app.core.auth import InvalidCredentials
from app.core.errors import NotFound, Unauthorized
from app.core.permissions import Actor
from app.core.refresh_tokens import RefreshToken
from app.core.security_log import note
from app.database import Database
from app.db.purging import purge_some
from app.db.statements import keep
from app.db.transaction import Transaction
from app.models import User, UserSession
from app.schemas.fields import PageQuery
from app.services.pages import Listing, Order, Page, Pager, scope_of
from app.services.sign_in_endings import tell_of_ended_sign_ins

# From the last refresh on.
LIFETIME = timedelta(days=30)
# How long the token before the last one is answered again, for the answer may have been lost.
GRACE = timedelta(seconds=10)
MOST_OF_USER_AGENT = 200
_IS_OWN, _IS_ALIVE = UserSession.user_id == bindparam("user_id"), UserSession.expires_at > func.now()
_SESSIONS = Listing(
    select(UserSession).where(_IS_OWN, _IS_ALIVE),
    Order(key=UserSession.created_at, id=UserSession.id, descending=True),
)
_LOCK_AS_CHECKED = keep(
    select(User.id)
    .where(User.id == bindparam("user_id"), User.is_active, User.password_hash == bindparam("password_hash"))
    .with_for_update(key_share=True)
)
# Those that were kept up before so many others.
_KEPT_UP_BEFORE = keep(
    select(UserSession.id)
    .where(_IS_OWN)
    .order_by(UserSession.refreshed_at.desc(), UserSession.id.desc())
    .offset(bindparam("number", type_=Integer()))
)
_LOCK_SESSION = keep(
    select(UserSession, UserSession.refreshed_at > func.clock_timestamp() - bindparam("grace", type_=Interval()))
    .join(User, User.id == UserSession.user_id)
    .where(UserSession.family_hash == bindparam("family_hash"), _IS_ALIVE, User.is_active)
    .with_for_update(of=UserSession)
)


class InvalidRefreshToken(Unauthorized):
    """One answer whether it's unknown, too old, used before, or of a session that has ended."""

    def __init__(self) -> None:
        super().__init__("The refresh token is not valid; sign in again.", code="invalid_refresh_token")


class SessionNotFound(NotFound):
    code = "session_not_found"

    def __init__(self) -> None:
        super().__init__("There is no such session.")


@dataclass(frozen=True, slots=True)
class HeldSession:
    """A session with the refresh token that keeps it up from now on."""

    id: UUID
    user_id: UUID
    refresh_token: str


class SessionService:
    """The sessions of people: opening them, keeping them up, ending them. See ADR 23."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def open(self, user: User, *, user_agent: str, most: int) -> HeldSession:
        """Begin a session of somebody whose password was checked.

        An account has `most` sessions. For one more, the one ends that was not kept up for the longest time.

        Raises:
            InvalidCredentials: the account has ended since then, or has another password.
        """
        # Locked, so that a change of the password either sees this session or is seen here, and so does another one
        # that is opened at the same time.
        checked = {"user_id": user.id, "password_hash": user.password_hash}
        if await self._transaction.scalar(_LOCK_AS_CHECKED, checked) is None:
            raise InvalidCredentials
        await self._make_room(user, most)
        token = RefreshToken.new()
        row = UserSession(
            user_id=user.id,
            family_hash=token.family_hash,
            current_hash=token.hash,
            user_agent=_printable(user_agent),
            expires_at=func.now() + LIFETIME,
        )
        self._transaction.add(row)
        await self._transaction.flush()
        note(self._transaction.info, "signed in", account_id=user.id, session_id=row.id)
        return HeldSession(row.id, user.id, token.text)

    async def refresh(self, token: RefreshToken, *, key: str) -> HeldSession | None:
        """Trade the token for the next one. One that was traded before ends its session, and there is None.

        The same trade within `GRACE` has the same answer.
        """
        found = await self._lock_session_of(token)
        if found is None:
            return None
        row, is_in_grace = found
        following = token.following(key)
        if token.is_hashed_as(row.current_hash):
            row.previous_hash, row.current_hash = row.current_hash, following.hash
            row.refreshed_at, row.expires_at = func.now(), func.now() + LIFETIME
            await self._transaction.flush()
        elif not (is_in_grace and token.is_hashed_as(row.previous_hash)):
            note(self._transaction.info, "a refresh came twice", account_id=row.user_id, session_id=row.id)
            await self._end([row.id], user_id=row.user_id, actor=Actor(row.user_id))
            return None
        return HeldSession(row.id, row.user_id, following.text)

    async def list_own(self, actor: Actor, query: PageQuery, pager: Pager) -> Page[UserSession]:
        """Newest first."""
        return await pager.fetch(_SESSIONS, {"user_id": actor.id}, query, scope=scope_of("sessions", actor=actor.id))

    async def end(self, actor: Actor, session_id: UUID) -> None:
        """End one of one's own sessions; its access tokens, sockets and streams end with it."""
        if not await self._end_where(actor.id, UserSession.id == session_id, by=actor):
            raise SessionNotFound

    async def end_others(self, actor: Actor, *, than: UUID | None) -> int:
        """End all of one's own sessions but that one (or without one, all); how many there were."""
        return await self.end_all(actor.id, but=than, by=actor)

    async def end_all(self, user_id: UUID, *, but: UUID | None = None, by: Actor) -> int:
        """End the sessions of an account, all or all but one; how many there were."""
        return await self._end_where(user_id, UserSession.id.is_distinct_from(but), by=by)

    async def purge(self) -> bool:
        """Forget some of the sessions that have run out; whether there may be more."""
        return await purge_some(self._transaction, UserSession, UserSession.expires_at <= func.now())

    async def _make_room(self, user: User, most: int) -> None:
        """End what is too much beside one more session of the account, which is locked."""
        if ids := list(await self._transaction.scalars(_KEPT_UP_BEFORE, {"user_id": user.id, "number": most - 1})):
            await self._end_where(user.id, UserSession.id.in_(ids), by=Actor.of(user))

    async def _lock_session_of(self, token: RefreshToken) -> tuple[UserSession, bool] | None:
        found = await self._transaction.first(_LOCK_SESSION, {"family_hash": token.family_hash, "grace": GRACE})
        return None if found is None else (found[0], found[1])

    async def _end_where(self, user_id: UUID, which: ColumnElement[bool], *, by: Actor) -> int:
        # In one order, so that two who end each other's sessions don't wait for each other.
        own = select(UserSession.id).where(UserSession.user_id == user_id, which).order_by(UserSession.id)
        ids = list(await self._transaction.scalars(own.with_for_update()))
        if ids:
            await self._end(ids, user_id=user_id, actor=by)
        return len(ids)

    async def _end(self, ids: list[UUID], *, user_id: UUID, actor: Actor) -> None:
        await self._transaction.execute(delete(UserSession).where(UserSession.id.in_(ids)))
        await tell_of_ended_sign_ins(self._transaction, ids, user_id=user_id, actor=actor)


async def refresh_session(database: Database, text: str, *, key: str) -> HeldSession:
    """Trade a refresh token for the next one.

    Raises:
        InvalidRefreshToken: it's not valid. If it was used before, its session has ended, which is committed first.
    """
    held = None
    if token := RefreshToken.read(text):
        async with database.unit_of_work() as transaction:
            held = await SessionService(transaction).refresh(token, key=key)
    if held is None:
        raise InvalidRefreshToken
    return held


def _printable(text: str) -> str:
    return "".join(letter for letter in text if letter.isprintable())[:MOST_OF_USER_AGENT]
