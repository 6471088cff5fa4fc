from datetime import datetime

from sqlalchemy import bindparam, literal_column, select

from app.core.auth import NotSignedIn, SignedIn
from app.core.permissions import Actor, ActorType
from app.db.statements import keep
from app.db.transaction import Transaction
from app.models import ApiToken, Scope, Task, TaskStatus, User
from app.schemas.whoami import HeldTask, TokenKind, WhoamiAccount, WhoamiResponse

MOST_HELD = 200
SCOPES_OF_TASKS = frozenset({Scope.TASKS_READ, Scope.TASKS_WRITE, Scope.TASKS_CLAIM})

_ACCOUNT = keep(select(User).where(User.id == bindparam("user_id"), User.is_active))
_END_OF_TOKEN = keep(select(ApiToken.expires_at).where(ApiToken.id == bindparam("token_id")))
_HELD = keep(
    select(Task)
    .where(Task.assignee_id == bindparam("user_id"), Task.status == TaskStatus.IN_PROGRESS)
    .order_by(Task.created_at, Task.id)
    .limit(literal_column(str(MOST_HELD)))
)


class WhoamiService:
    """Tells the holder of a token who they are to HIVE."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def tell(self, signed_in: SignedIn) -> WhoamiResponse:
        """Raises `NotSignedIn` if the account has ended meanwhile."""
        user: User | None = await self._transaction.scalar(_ACCOUNT, {"user_id": signed_in.actor.id})
        if user is None:
            raise NotSignedIn
        account = WhoamiAccount(
            id=user.id,
            display_name=user.display_name,
            type="agent" if user.is_agent else "user",
            owner_id=user.owner_id,
            is_admin=user.is_admin,
        )
        scopes = signed_in.scopes
        is_told_of_tasks = scopes is None or bool(SCOPES_OF_TASKS & scopes)
        return WhoamiResponse(
            account=account,
            token_kind=_kind_of(signed_in),
            scopes=None if scopes is None else sorted(scopes),
            expires_at=await self._end_of(signed_in),
            holds=await self._held_by(signed_in.actor) if is_told_of_tasks else None,
        )

    async def _end_of(self, signed_in: SignedIn) -> datetime | None:
        if signed_in.scopes is None:
            return signed_in.expires_at
        # As it was asked for. What is remembered of a sign-in is by this process's own clock.
        end: datetime | None = await self._transaction.scalar(_END_OF_TOKEN, {"token_id": signed_in.id})
        return end

    async def _held_by(self, actor: Actor) -> list[HeldTask]:
        return [
            HeldTask(
                task_id=task.id,
                title=task.title,
                lease_token=task.lease_token,
                lease_expires_at=task.lease_expires_at,
            )
            for task in await self._transaction.scalars(_HELD, {"user_id": actor.id})
        ]


def _kind_of(signed_in: SignedIn) -> TokenKind:
    if signed_in.scopes is None:
        return TokenKind.SESSION
    return TokenKind.AGENT_TOKEN if signed_in.actor.type is ActorType.AGENT else TokenKind.API_TOKEN
