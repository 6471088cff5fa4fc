from sqlalchemy import bindparam, select

from app.core.auth import NotSignedIn
from app.core.permissions import Actor
from app.db.statements import keep
from app.db.transaction import Transaction
from app.events import outbox
from app.events.types import ChatMessage
from app.models import User

_ACTIVE = keep(select(User.id).where(User.id == bindparam("user_id"), User.is_active))


class ChatService:
    """Talk among all who are signed in. A message is an event and nothing else."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def say(self, actor: Actor, message: str) -> None:
        """Raises `NotSignedIn` for an account that has ended, whose socket may not have learnt of it yet."""
        if await self._transaction.scalar(_ACTIVE, {"user_id": actor.id}) is None:
            raise NotSignedIn
        await outbox.record(self._transaction, ChatMessage(message=message), actor=actor, audience=None)
