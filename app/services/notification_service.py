from datetime import timedelta
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import NotFound
from app.core.permissions import Actor
from app.events import outbox
from app.events.types import NotificationRead
from app.models import Notification
from app.schemas.notification import NotificationListQuery
from app.services.pages import Order, Page, Pager, scope_of

# An event has to stay a small message, so one tells of so many at most.
READ_AT_ONCE = 500
NEWEST_FIRST = Order(key=Notification.created_at, id=Notification.id, descending=True)


class NotificationNotFound(NotFound):
    code = "notification_not_found"

    def __init__(self) -> None:
        super().__init__("There is no such notification.")


class NotificationService:
    """One's own notifications. Those of others don't exist for anybody, admins included."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def list_own(self, actor: Actor, query: NotificationListQuery, pager: Pager) -> Page[Notification]:
        """Newest first."""
        statement = select(Notification).where(Notification.user_id == actor.id)
        if query.unread:
            statement = statement.where(Notification.read_at.is_(None))
        scope = scope_of("notifications", actor=actor.id, unread=query.unread)
        return await pager.fetch(statement, NEWEST_FIRST, query, scope=scope)

    async def mark_read(self, actor: Actor, notification_id: UUID) -> Notification:
        """Once read it stays read, with the time of the first time."""
        own = select(Notification).where(Notification.id == notification_id, Notification.user_id == actor.id)
        notification = await self._session.scalar(own.with_for_update())
        if notification is None:
            raise NotificationNotFound
        if notification.read_at is None:
            notification.read_at = await self._session.scalar(select(func.now()))
            await self._session.flush()
            await self._tell_devices(actor, [notification.id])
        return notification

    async def mark_all_read(self, actor: Actor) -> int:
        """How many there were. Those that come meanwhile stay unread."""
        unread = (
            select(Notification.id)
            .where(Notification.user_id == actor.id, Notification.read_at.is_(None))
            .order_by(Notification.id)
            .with_for_update()
        )
        ids = (await self._session.scalars(unread)).all()
        for begin in range(0, len(ids), READ_AT_ONCE):
            batch = list(ids[begin : begin + READ_AT_ONCE])
            await self._session.execute(
                update(Notification).where(Notification.id.in_(batch)).values(read_at=func.now())
            )
            await self._tell_devices(actor, batch)
        return len(ids)

    async def purge(self, *, keep: timedelta) -> None:
        """Forget what was read longer ago than that. What nobody has read yet stays."""
        old = Notification.read_at < func.now() - keep
        await self._session.execute(delete(Notification).where(old))

    async def _tell_devices(self, actor: Actor, ids: list[UUID]) -> None:
        await outbox.record(self._session, NotificationRead(notification_ids=ids), actor=actor, audience=[actor.id])
