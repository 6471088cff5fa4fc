"""What an operator may do to accounts: see them, put them out and let them in again, make and unmake admins."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from uuid import UUID

from sqlalchemy import Text, bindparam, func, or_, select

from app.core.errors import Conflict
from app.core.passwords import refuse_own_names
from app.core.permissions import AdminsOnly
from app.core.security import hash_password
from app.db.transaction import Transaction
from app.events import outbox
from app.events.types import AccountChanged
from app.models import ApiToken, AuditAction, User, UserSession
from app.schemas.admin import AccountQuery, AdminUserResponse
from app.services.account_endings import end_account_and_agents, require_other_admin
from app.services.account_locks import lock_admins, lock_with_owner
from app.services.assignment_service import UserNotFound
from app.services.operator import AuditLog, Operator
from app.services.pages import Listing, Order, Page, Pager, scope_of
from app.services.preconditions import UNCONDITIONAL, Precondition
from app.services.sign_outs import end_sign_ins

# What stands for other letters in a LIKE, unless a slash comes before it.
_LIKE_SIGNS = re.compile(r"[/%_]")


class NotAPerson(Conflict):
    code = "not_a_person"

    def __init__(self) -> None:
        super().__init__("An agent has no password, and can't be an admin.")


class HasEnded(Conflict):
    code = "account_deactivated"

    def __init__(self) -> None:
        super().__init__("This account has ended; reactivate it first.")


class IsEmptied(Conflict):
    code = "account_emptied"

    def __init__(self) -> None:
        super().__init__("Name, address and password of this account are gone, so it can't begin anew.")


class OwnerHasEnded(Conflict):
    code = "owner_deactivated"

    def __init__(self) -> None:
        super().__init__("The owner of this agent has ended; reactivate them first.")


class OwnPassword(Conflict):
    code = "own_password"

    def __init__(self) -> None:
        super().__init__("One's own password is changed by PATCH /users/me, with the current one.")


@dataclass(frozen=True, slots=True)
class Seen:
    """What sessions and tokens tell of an account."""

    last_seen_at: datetime | None = None
    sessions: int = 0


class UserAdmin:
    """What an operator does to accounts. Each change is an entry in the audit log.

    A change that the account has had already changes nothing, and is not written down again. Each change raises
    `AdminsOnly` if the operator has stopped being an admin since they were looked up.
    """

    def __init__(self, transaction: Transaction, precondition: Precondition = UNCONDITIONAL) -> None:
        self._transaction = transaction
        self._precondition = precondition
        self._audit = AuditLog(transaction)

    async def list_accounts(self, query: AccountQuery, pager: Pager) -> Page[User]:
        """Newest first; those that have ended too."""
        listing = _accounts(is_search=bool(query.q), active=query.active, admin=query.admin)
        given = {"q": _LIKE_SIGNS.sub(r"/\g<0>", query.q or "")}
        scope = scope_of("accounts", q=query.q, active=query.active, admin=query.admin)
        return await pager.fetch(listing, given, query, scope=scope)

    async def get(self, user_id: UUID) -> User:
        user = await self._transaction.get(User, user_id)
        if user is None:
            raise UserNotFound
        return user

    async def show(self, users: Sequence[User]) -> list[AdminUserResponse]:
        seen = await self._seen([user.id for user in users])
        return [_shown(user, seen.get(user.id, Seen())) for user in users]

    async def deactivate(self, operator: Operator, user_id: UUID) -> User:
        """End the account and those of its agents, as its owner could.

        Raises:
            LastAdmin: there would be no admin left.
        """
        user = await self._lock(operator, user_id)
        if user.is_active:
            await require_other_admin(self._transaction, user)
            self._audit.add(operator, AuditAction.DEACTIVATED, user.id)
            await end_account_and_agents(self._transaction, user, by=operator.actor)
        return user

    async def reactivate(self, operator: Operator, user_id: UUID) -> User:
        """Let the account begin anew, with its address and password and without what has ended with it.

        Raises:
            IsEmptied, OwnerHasEnded: it can't.
        """
        user = await self._lock(operator, user_id)
        if user.is_active:
            return user
        if user.emptied_at is not None:
            raise IsEmptied
        # The owner of an agent is locked with it.
        if user.owner_id is not None and not (await self.get(user.owner_id)).is_active:
            raise OwnerHasEnded
        user.is_active, user.deactivated_at = True, None
        return await self._change(operator, AuditAction.REACTIVATED, user)

    async def promote(self, operator: Operator, user_id: UUID) -> User:
        """Make an admin of a person.

        Raises:
            NotAPerson, HasEnded: it's none, or not any more.
        """
        user = await self._lock_person(operator, user_id)
        if user.is_admin:
            return user
        user.is_admin = True
        return await self._change(operator, AuditAction.PROMOTED, user)

    async def demote(self, operator: Operator, user_id: UUID) -> User:
        """Take an admin's rights. Sockets and streams that were opened with them close.

        Raises:
            LastAdmin: there would be no admin left.
        """
        user = await self._lock(operator, user_id)
        if not user.is_admin:
            return user
        await require_other_admin(self._transaction, user)
        user.is_admin = False
        return await self._change(operator, AuditAction.DEMOTED, user)

    async def sign_out(self, operator: Operator, user_id: UUID, *, keep_tokens: bool = False) -> User:
        """End all sessions of the account, and its API tokens and those of its agents unless they are to be kept."""
        user = await self._lock(operator, user_id)
        ended = await end_sign_ins(self._transaction, user, by=operator.actor, keep_tokens=keep_tokens)
        self._audit.add(operator, AuditAction.SIGNED_OUT, user.id, sessions=ended.sessions, tokens=ended.tokens)
        await self._transaction.flush()
        return user

    async def set_password(
        self, operator: Operator, user_id: UUID, password: str, *, keep_tokens: bool = False
    ) -> User:
        """Give a person another password, and end what was opened with the old one.

        Raises:
            OwnPassword: it's the operator's own, for which the current one is asked.
            PasswordNamesAccount: it's the person's own name or address.
            NotAPerson, HasEnded: it's none, or not any more.
        """
        if operator.account_id == user_id:
            raise OwnPassword
        password_hash = await hash_password(password)
        user = await self._lock_person(operator, user_id)
        refuse_own_names(password, addresses=(user.email,), names=(user.display_name,))
        user.password_hash = password_hash
        user.version += 1
        ended = await end_sign_ins(self._transaction, user, by=operator.actor, keep_tokens=keep_tokens)
        self._audit.add(operator, AuditAction.PASSWORD_SET, user.id, sessions=ended.sessions, tokens=ended.tokens)
        await self._transaction.flush()
        return user

    async def _change(self, operator: Operator, action: AuditAction, user: User) -> User:
        user.version += 1
        self._audit.add(operator, action, user.id)
        await self._transaction.flush()
        event = AccountChanged(user_id=user.id, is_admin=user.is_admin)
        await outbox.record(self._transaction, event, actor=operator.actor, audience=[])
        return user

    async def _lock_person(self, operator: Operator, user_id: UUID) -> User:
        user = await self._lock(operator, user_id)
        if user.is_agent:
            raise NotAPerson
        if not user.is_active:
            raise HasEnded
        return user

    async def _lock(self, operator: Operator, user_id: UUID) -> User:
        # The caller was looked up in an earlier transaction, and may have been demoted or deactivated since.
        admins = await lock_admins(self._transaction)
        if operator.account_id is not None and operator.account_id not in admins:
            raise AdminsOnly
        user = (await lock_with_owner(self._transaction, user_id)).get(user_id)
        if user is None:
            raise UserNotFound
        self._precondition.require_of_user(user, shown=_shown(user, Seen()))
        return user

    async def _seen(self, user_ids: Sequence[UUID]) -> Mapping[UUID, Seen]:
        by_session = (
            select(UserSession.user_id, func.max(UserSession.refreshed_at), func.count())
            .where(UserSession.user_id.in_(user_ids), UserSession.expires_at > func.now())
            .group_by(UserSession.user_id)
        )
        by_token = (
            select(ApiToken.user_id, func.max(ApiToken.last_used_at))
            .where(ApiToken.user_id.in_(user_ids))
            .group_by(ApiToken.user_id)
        )
        seen = {user_id: Seen(at, count) for user_id, at, count in await self._transaction.execute(by_session)}
        for user_id, used_at in await self._transaction.execute(by_token):
            known = seen.get(user_id, Seen())
            times = [time for time in (known.last_seen_at, used_at) if time]
            seen[user_id] = Seen(max(times, default=None), known.sessions)
        return seen


@cache
def _accounts(*, is_search: bool, active: bool | None, admin: bool | None) -> Listing[User]:
    accounts = select(User)
    if is_search:
        searched = bindparam("q", type_=Text())
        contains = [column.icontains(searched, escape="/") for column in (User.display_name, User.email)]
        accounts = accounts.where(or_(*contains))
    if active is not None:
        accounts = accounts.where(User.is_active.is_(active))
    if admin is not None:
        accounts = accounts.where(User.is_admin.is_(admin))
    return Listing(accounts, Order(key=User.created_at, id=User.id, descending=True))


def _shown(user: User, seen: Seen) -> AdminUserResponse:
    return AdminUserResponse(
        id=user.id,
        type="agent" if user.is_agent else "user",
        owner_id=user.owner_id,
        email=user.email,
        display_name=user.display_name,
        role=user.role,
        skills=user.skills,
        impact_score=user.impact_score,
        active=user.is_active,
        admin=user.is_admin,
        version=user.version,
        created_at=user.created_at,
        updated_at=user.updated_at,
        deactivated_at=user.deactivated_at,
        emptied_at=user.emptied_at,
        last_seen_at=seen.last_seen_at,
        sessions=seen.sessions,
    )
