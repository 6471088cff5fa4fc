"""Ending what an account is signed in by, while the account itself goes on."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import or_, select

from app.core.permissions import Actor
from app.db.transaction import Transaction
from app.models import User
from app.services.api_token_service import ApiTokenService
from app.services.session_service import SessionService


@dataclass(frozen=True, slots=True)
class EndedSignIns:
    """How many there were."""

    sessions: int
    tokens: int


async def end_sign_ins(
    transaction: Transaction,
    user: User,
    *,
    by: Actor,
    but: UUID | None = None,
    keep_sessions: bool = False,
    keep_tokens: bool = False,
) -> EndedSignIns:
    """End the sessions of an account, which is locked, but for that one, and its API tokens and those of its agents."""
    sessions = 0 if keep_sessions else await SessionService(transaction).end_all(user.id, but=but, by=by)
    if keep_tokens:
        return EndedSignIns(sessions, 0)
    # Agents that have ended have none, and there may be any number of them.
    own = select(User.id).where(or_(User.id == user.id, (User.owner_id == user.id) & User.is_active)).order_by(User.id)
    accounts = await transaction.scalars(own)
    return EndedSignIns(sessions, await ApiTokenService(transaction).revoke_all(accounts, by=by))
