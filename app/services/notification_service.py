from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, Select, bindparam, func, select, update

from app.core.errors import NotFound
from app.core.permissions import Actor
from app.db.purging import purge_found, purge_some
from app.db.statements import keep
from app.db.transaction import Transaction
from app.events import outbox
from app.events.jobs import ask_for_job
from app.events.types import NotificationRead
from app.models import JobName, Notification
from app.schemas.notification import NotificationListQuery
from app.services.pages import Listing, Order, Page, Pager, scope_of

# An event has to stay a small message, and a transaction a short one.
READ_AT_ONCE = 500
NEWEST_FIRST = Order(key=Notification.created_at, id=Notification.id, descending=True)
_OWN = Listing(select(Notification).where(Notification.user_id == bindparam("user_id")), NEWEST_FIRST)
_UNREAD = Listing(_OWN.rows.where(Notification.read_at.is_(None)), NEWEST_FIRST)
# With the time.
_LOCK_OWN = keep(
    _OWN.rows.where(Notification.id == bindparam("notification_id")).add_columns(func.now()).with_for_update()
)


# What nobody looks at for so long is nobody's concern.
KEEP_UNREAD = timedelta(days=180)
MOST_KEPT = 10_000


class NotificationNotFound(NotFound):
    code = "notification_not_found"

    def __init__(self) -> None:
        super().__init__("There is no such notification.")


class NotificationService:
    """One's own notifications. Those of others don't exist for anybody, admins included."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def list_own(self, actor: Actor, query: NotificationListQuery, pager: Pager) -> Page[Notification]:
        """Newest first."""
        scope = scope_of("notifications", actor=actor.id, unread=query.unread)
        return await pager.fetch(_UNREAD if query.unread else _OWN, {"user_id": actor.id}, query, scope=scope)

    async def mark_read(self, actor: Actor, notification_id: UUID) -> Notification:
        """Once read it stays read, with the time of the first time."""
        found = await self._transaction.first(_LOCK_OWN, {"user_id": actor.id, "notification_id": notification_id})
        if found is None:
            raise NotificationNotFound
        notification: Notification = found[0]
        if notification.read_at is None:
            notification.read_at = found[1]
            await self._transaction.flush()
            await self._tell_devices(actor, [notification.id])
        return notification

    async def mark_all_read(self, actor: Actor) -> int:
        """How many there were. Those that come meanwhile stay unread.

        Of many, the newest are marked at once, and the rest by a job.
        """
        marked, is_all = await self._mark_newest(actor, until=func.now())
        if is_all:
            return marked
        left = select(func.count()).select_from(_unread(actor, func.now()).subquery())
        count, now = await self._transaction.one(left.add_columns(func.now()))
        self._go_on_marking(actor, until=now)
        return marked + int(count)

    async def mark_some_read(self, actor: Actor, *, until: datetime) -> None:
        """Mark some of those that were there at that time, and have a job go on if there are more.

        It can be repeated after a crash: what was marked is not unread any more.
        """
        _, is_all = await self._mark_newest(actor, until=until)
        if not is_all:
            self._go_on_marking(actor, until=until)

    async def _mark_newest(self, actor: Actor, *, until: datetime | ColumnElement[datetime]) -> tuple[int, bool]:
        """How many were marked, and whether those were all."""
        unread = _unread(actor, until)
        newest = unread.order_by(Notification.created_at.desc(), Notification.id.desc()).limit(READ_AT_ONCE)
        found = list(await self._transaction.scalars(newest))
        if not found:
            return 0, True
        # Another device may have read some of them meanwhile.
        locked = unread.where(Notification.id.in_(found)).order_by(Notification.id).with_for_update()
        ids = list(await self._transaction.scalars(locked))
        if ids:
            await self._transaction.execute(
                update(Notification).where(Notification.id.in_(ids)).values(read_at=func.now())
            )
            await self._tell_devices(actor, ids)
        return len(ids), len(found) < READ_AT_ONCE

    def _go_on_marking(self, actor: Actor, *, until: datetime) -> None:
        name = JobName.MARK_NOTIFICATIONS_READ
        ask_for_job(self._transaction, name, user_id=str(actor.id), until=until.isoformat())

    async def purge(self, *, keep: timedelta) -> bool:
        """Forget some of what was read longer ago than that, and of what is too old or too much; whether there is more.

        Unread ones stay for `KEEP_UNREAD`, or for as long as reading would have left them if that is longer, and of
        each person the newest `MOST_KEPT`.
        """
        is_read = Notification.read_at < func.now() - keep
        is_old = Notification.read_at.is_(None) & (Notification.created_at < func.now() - max(KEEP_UNREAD, keep))
        are_more = [
            await purge_some(self._transaction, Notification, is_read),
            await purge_some(self._transaction, Notification, is_old),
            await purge_found(self._transaction, Notification, _too_many()),
        ]
        return any(are_more)

    async def _tell_devices(self, actor: Actor, ids: list[UUID]) -> None:
        await outbox.record(self._transaction, NotificationRead(notification_ids=ids), actor=actor, audience=[actor.id])


def _unread(actor: Actor, until: datetime | ColumnElement[datetime]) -> Select[UUID]:
    return select(Notification.id).where(
        Notification.user_id == actor.id, Notification.read_at.is_(None), Notification.created_at <= until
    )


def _too_many() -> Select[UUID]:
    """Those of people who have more than `MOST_KEPT`, beyond their newest ones."""
    crowded = select(Notification.user_id).group_by(Notification.user_id).having(func.count() > MOST_KEPT).subquery()
    place = func.row_number().over(
        partition_by=Notification.user_id, order_by=(Notification.created_at.desc(), Notification.id.desc())
    )
    ranked = (
        select(Notification.id, place.label("place"))
        .join(crowded, crowded.c.user_id == Notification.user_id)
        .subquery()
    )
    return select(ranked.c.id).where(ranked.c.place > MOST_KEPT)
