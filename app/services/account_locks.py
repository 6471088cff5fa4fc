"""The one order in which accounts are locked, so that of two who need several neither waits for the other.

It is: the right to unmake admins, people by their ids, agents by their ids. All of them come before sessions, API
tokens and tasks.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from uuid import UUID

from sqlalchemy import Uuid, any_, bindparam, func, literal_column, or_, select
from sqlalchemy.dialects.postgresql import ARRAY

from app.db.statements import keep
from app.db.transaction import Transaction
from app.models import User

ADMINS_LOCK = 4_183_030
# An agent's owner comes before the agent, whichever clocks their ids were made by.
LOCK_ORDER = (User.owner_id.is_not(None), User.id)

_ACTIVE = select(User.id).where(User.is_active)
_LOCK_ACTIVE_USER = keep(_ACTIVE.where(User.id == bindparam("user_id")).with_for_update(read=True))
_LOCK_ACTIVE_USERS = keep(
    _ACTIVE.where(User.id == any_(bindparam("user_ids", type_=ARRAY(Uuid()))))
    .order_by(*LOCK_ORDER)
    .with_for_update(read=True)
)
_LOCK_ADMINS = keep(select(func.pg_advisory_xact_lock(literal_column(str(ADMINS_LOCK)))))
_ACTIVE_ADMINS = keep(_ACTIVE.where(User.is_admin))
_IS_THE_ONE = User.id == bindparam("user_id")
_LOCK_WITH_OWNER = keep(
    select(User)
    .where(or_(_IS_THE_ONE, User.id == select(User.owner_id).where(_IS_THE_ONE).scalar_subquery()))
    .order_by(*LOCK_ORDER)
    .with_for_update(key_share=True)
)


async def lock_active_user(transaction: Transaction, user_id: UUID) -> bool:
    """Keep the account from ending until the transaction does; False if it has ended already."""
    return await transaction.scalar(_LOCK_ACTIVE_USER, {"user_id": user_id}) is not None


async def lock_active_users(transaction: Transaction, user_ids: AbstractSet[UUID]) -> AbstractSet[UUID]:
    """Keep the accounts from ending until the transaction does; those that have ended already are left out."""
    if not user_ids:
        return frozenset()
    return set(await transaction.scalars(_LOCK_ACTIVE_USERS, {"user_ids": list(user_ids)}))


async def lock_admins(transaction: Transaction) -> set[UUID]:
    """Keep others from making and unmaking admins until the transaction ends: of two at once one sees the other.

    Returns the ids of those who are active admins once that is so. Their rows are not locked, for admins get tasks as
    others do.
    """
    await transaction.execute(_LOCK_ADMINS)
    return set(await transaction.scalars(_ACTIVE_ADMINS))


async def lock_with_owner(transaction: Transaction, user_id: UUID) -> Mapping[UUID, User]:
    """Keep others from changing an account and, if it's an agent, its owner; both as they are once that is so."""
    return {user.id: user for user in await transaction.scalars(_LOCK_WITH_OWNER, {"user_id": user_id})}
