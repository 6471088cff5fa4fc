"""Telling people in person: of what happened to their tasks, of mentions, of due times that come near."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import cast
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Table,
    Uuid,
    any_,
    bindparam,
    case,
    func,
    literal,
    literal_column,
    or_,
    select,
    union_all,
)
from sqlalchemy.dialects.postgresql import insert
from uuid_utils.compat import uuid7

from app.core.permissions import SYSTEM, Actor, ActorType
from app.db.statements import keep
from app.db.transaction import Transaction
from app.events import outbox
from app.events.jobs import ask_once
from app.events.notices import mentions_in, notices_of, text_with_mentions
from app.events.types import NotificationCreated, read_event_data
from app.models import Event, JobName, Notification, NotificationKind, Task, TaskStatus, User

# Reminders for one run; what is more comes with the next one.
BATCH = 500
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
# Half a day late, "in a day" is no longer true, and the reminder of the hour is still to come.
DAY_REMINDER_HOLDS = timedelta(hours=12)
REMINDED_STATUSES = (TaskStatus.AVAILABLE, TaskStatus.IN_PROGRESS)


@dataclass(frozen=True, slots=True)
class Notice:
    """A notification to be written: the columns of its row."""

    user_id: UUID
    kind: NotificationKind
    task_id: UUID | None
    task_title: str | None
    actor_id: UUID | None = None
    event_id: UUID | None = None
    due_at: datetime | None = None


_ACTIVE = keep(
    select(User).where(User.id == any_(bindparam("user_ids", type_=ARRAY(Uuid()))), User.is_active).order_by(User.id)
)
_LOCK_MENTIONS = keep(
    select(func.pg_advisory_xact_lock(func.hashtextextended(bindparam("sender"), literal_column("0"))).is_(None))
)
_RECENTLY_MENTIONED = keep(
    select(Notification.user_id).where(
        Notification.user_id == any_(bindparam("user_ids", type_=ARRAY(Uuid()))),
        Notification.created_at > func.now() - literal_column("interval '1 hour'"),
        Notification.actor_id == bindparam("sender_id", type_=Uuid()),
        Notification.kind == NotificationKind.MENTIONED,
        Notification.task_id.is_(None),
    )
)
_COLUMNS = [field.name for field in fields(Notice)]
_NOTIFICATIONS = cast("Table", Notification.__table__)
_WRITE_ONCE = keep(
    insert(_NOTIFICATIONS)
    .values({name: bindparam(f"new_{name}") for name in ("id", *_COLUMNS)})
    .on_conflict_do_nothing()
    .returning(_NOTIFICATIONS.c.id)
)


class Notifier:
    """Writes notifications, each once, however often it's asked to. With `sends_mail`, each is mailed as well."""

    def __init__(self, transaction: Transaction, *, sends_mail: bool = False) -> None:
        self._transaction = transaction
        self._sends_mail = sends_mail

    async def tell_of(self, event_id: UUID) -> None:
        """Notify those whom an event of the log concerns, as far as they may see its task now."""
        event = await self._transaction.get(Event, event_id)
        task = None
        if event is not None and event.task_id is not None:
            task = await self._transaction.get(Task, event.task_id)
        if event is None or (event.task_id is not None and task is None):
            # The task is gone, and with it the reason to look at it.
            return
        data = read_event_data(event.type, event.data)
        told = dict.fromkeys(mentions_in(text_with_mentions(data, task)) - {event.actor_id}, NotificationKind.MENTIONED)
        if task is None:
            told = await self._without_recently_mentioned(told, event.actor_id)
        told |= notices_of(data, actor_id=event.actor_id, owner_id=task.owner_id) if task else {}
        for user in await self._active(told):
            if task is None or Actor.of(user).visibility.sees(task):
                notice = Notice(
                    user_id=user.id,
                    kind=told[user.id],
                    task_id=task.id if task else None,
                    task_title=task.title if task else None,
                    actor_id=event.actor_id,
                    event_id=event.id,
                )
                await self._tell(user, notice, by=Actor(event.actor_id, type=ActorType(event.actor_type)))

    async def _without_recently_mentioned(
        self, told: dict[UUID, NotificationKind], sender: UUID
    ) -> dict[UUID, NotificationKind]:
        """Leave out whom the sender mentioned in the chat within the last hour."""
        if not told:
            return told
        # Two messages at once must not both be the first one.
        await self._transaction.scalar(_LOCK_MENTIONS, {"sender": str(sender)})
        recent = await self._transaction.scalars(_RECENTLY_MENTIONED, {"user_ids": sorted(told), "sender_id": sender})
        recently_told = set(recent)
        return {user_id: kind for user_id, kind in told.items() if user_id not in recently_told}

    async def tell_of_hand_over(self, new_owner: UUID) -> None:
        """Notify who has been given all tasks of an account, once for all of them."""
        for user in await self._active([new_owner]):
            notice = Notice(user.id, NotificationKind.HANDED_OVER, task_id=None, task_title=None, actor_id=SYSTEM.id)
            await self._tell(user, notice, by=SYSTEM)

    async def tell_of_failed_sign_ins(self, user_id: UUID) -> None:
        """Notify somebody of wrong passwords that were tried for their account."""
        for user in await self._active([user_id]):
            notice = Notice(user.id, NotificationKind.SIGN_INS_FAILED, task_id=None, task_title=None)
            await self._tell(user, notice, by=SYSTEM)

    async def remind_of_due_tasks(self) -> bool:
        """Remind owners and holders of what is due in a day or in an hour; whether there may be more."""
        reminders = await self._reminders()
        people = {user.id: user for user in await self._active(reminder.user_id for reminder in reminders)}
        for reminder in reminders:
            if reminder.user_id in people:
                await self._tell(people[reminder.user_id], reminder, by=SYSTEM)
        return len(reminders) == BATCH

    async def _reminders(self) -> Sequence[Notice]:
        """The reminders whose time has come and that nobody has been given yet."""
        owners = select(Task.id, Task.owner_id.label("person")).where(_is_due_soon())
        holders = select(Task.id, Task.assignee_id).where(_is_due_soon(), Task.assignee_id != Task.owner_id)
        people = union_all(owners, holders).subquery()
        kind = _kind_of_reminder()
        is_given = (
            select(literal(1))
            .where(
                Notification.task_id == Task.id,
                Notification.user_id == people.c.person,
                Notification.kind == kind,
                Notification.due_at == Task.due_at,
            )
            .exists()
        )
        statement = (
            select(
                people.c.person.label("user_id"),
                kind.label("kind"),
                Task.id.label("task_id"),
                Task.title.label("task_title"),
                Task.due_at,
            )
            .join(Task, Task.id == people.c.id)
            .join(User, User.id == people.c.person)
            .where(User.is_active, ~is_given)
            .order_by(Task.due_at)
            .limit(BATCH)
        )
        return [
            Notice(user_id, NotificationKind(kind), task_id, title, due_at=due_at)
            for user_id, kind, task_id, title, due_at in await self._transaction.execute(statement)
        ]

    async def _active(self, user_ids: Iterable[UUID]) -> Iterable[User]:
        return await self._transaction.scalars(_ACTIVE, {"user_ids": sorted(set(user_ids))})

    async def _tell(self, user: User, notice: Notice, *, by: Actor) -> None:
        """Write the notification, its event and its mail, unless the person has been told already."""
        row = {f"new_{name}": getattr(notice, name) for name in _COLUMNS}
        written: UUID | None = await self._transaction.scalar(_WRITE_ONCE, {"new_id": uuid7(), **row})
        if written is None:
            return
        event = NotificationCreated(
            notification_id=written,
            kind=notice.kind,
            task_id=notice.task_id,
            task_title=notice.task_title,
            actor_id=notice.actor_id,
            due_at=notice.due_at,
        )
        await outbox.record(self._transaction, event, actor=by, audience=[user.id])
        if self._sends_mail and user.mail_notifications and user.email_confirmed_at is not None:
            await ask_once(self._transaction, JobName.SEND_MAIL, key=str(written), notification_id=str(written))


def _is_due_soon() -> ColumnElement[bool]:
    left = Task.due_at - func.now()
    is_time = or_(left <= HOUR, left.between(DAY - DAY_REMINDER_HOLDS, DAY))
    # The first condition is what the index of due times is for.
    is_near = Task.due_at.between(func.now(), func.now() + DAY)
    return is_near & is_time & Task.status.in_(REMINDED_STATUSES)


def _kind_of_reminder() -> ColumnElement[str]:
    return case(
        (Task.due_at - func.now() <= HOUR, NotificationKind.DUE_IN_AN_HOUR), else_=NotificationKind.DUE_IN_A_DAY
    )
