"""How many notifications are mailed within a day, and the one mail that tells of the others."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from uuid import UUID

from sqlalchemy import cast, func, or_, select, update
from sqlalchemy.types import DateTime

from app.config import Settings
from app.core.permissions import SYSTEM
from app.database import Database
from app.db.transaction import Transaction
from app.events.jobs import ask_once
from app.mail.compose import compose_digest, message_id_of
from app.mail.mailer import Mailer, MailRefused, MailUncertain
from app.models import JobName, Notification, NotificationKind, User
from app.services.job_service import Hopeless, OutcomeUnknown

DAY = timedelta(days=1)


async def is_used_up(transaction: Transaction, settings: Settings, notification: Notification) -> bool:
    """Whether the recipient has got, or the sender has caused, as many mails within a day as there may be."""
    sender = notification.actor_id if notification.actor_id != SYSTEM.id else None
    is_to_them, is_by_them = Notification.user_id == notification.user_id, Notification.actor_id == sender
    counted = select(func.count().filter(is_to_them), func.count().filter(is_by_them)).where(
        Notification.mailed_at > func.now() - DAY, or_(is_to_them, is_by_them)
    )
    received, sent = await transaction.one(counted)
    return received >= settings.mails_per_recipient_per_day or (
        sender is not None and sent >= settings.mails_per_sender_per_day
    )


async def note_mailed(transaction: Transaction, notification_id: UUID) -> None:
    await transaction.execute(
        update(Notification).where(Notification.id == notification_id).values(mailed_at=func.now())
    )


async def put_into_digest(transaction: Transaction, user_id: UUID) -> None:
    """Ask for the one mail after the end of the day that says how much was not mailed."""
    today = func.date_trunc("day", func.now(), "UTC")
    begin, end = await transaction.one(
        select(cast(today, DateTime(timezone=True)), cast(today + DAY, DateTime(timezone=True)))
    )
    day = begin.date().isoformat()
    key = f"{user_id}/{day}"
    await ask_once(transaction, JobName.SEND_MAIL_DIGEST, key=key, run_after=end, user_id=str(user_id), day=day)


async def send_digest(database: Database, settings: Settings, mailer: Mailer, user_id: UUID, day: date) -> None:
    """Mail how many notifications of the day were not mailed, by kind.

    Raises:
        MailDelayed: try again later.
        OutcomeUnknown: the server may have it.
        Hopeless: the server won't ever take it.
    """
    wants_mail = (User.is_active, User.mail_notifications, User.email_confirmed_at.is_not(None))
    async with database.unit_of_work() as transaction:
        user = await transaction.scalar(select(User).where(User.id == user_id, *wants_mail))
        told = await _not_mailed(transaction, user_id, day)
    if user is None or not told:
        return
    message_id = message_id_of(settings, user_id, about=f"digest.{day.isoformat()}")
    try:
        await mailer.send(compose_digest(user.email, user.display_name, day, told, message_id))
    except (MailRefused, ValueError) as error:
        raise Hopeless(str(error)) from error
    except MailUncertain as error:
        raise OutcomeUnknown(str(error)) from error


async def _not_mailed(transaction: Transaction, user_id: UUID, day: date) -> Sequence[tuple[NotificationKind, int]]:
    begin = datetime.fromisoformat(f"{day.isoformat()}T00:00:00+00:00")
    found = await transaction.execute(
        select(Notification.kind, func.count())
        .where(Notification.user_id == user_id, Notification.mailed_at.is_(None))
        .where(Notification.created_at >= begin, Notification.created_at < begin + DAY)
        .group_by(Notification.kind)
        .order_by(Notification.kind)
    )
    return [(kind, count) for kind, count in found]
