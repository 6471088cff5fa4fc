from sqlalchemy.ext.asyncio import AsyncSession

from app.core.permissions import Actor
from app.events import outbox
from app.events.types import ChatMessage


class ChatService:
    """Talk among all who are signed in. A message is an event and nothing else."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def say(self, actor: Actor, message: str) -> None:
        await outbox.record(self._session, ChatMessage(message=message), actor=actor, audience=None)
