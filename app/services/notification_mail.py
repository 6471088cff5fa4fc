"""Sending notifications as mail."""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import aliased

from app.config import Settings
from app.database import Database
from app.mail.compose import NotificationMail, compose, message_id_of, task_link
from app.mail.mailer import Mailer, MailRefused, MailUncertain
from app.models import Notification, NotificationKind, Task, User
from app.services.job_service import Hopeless, OutcomeUnknown
from app.services.mail_budget import is_used_up, note_mailed, put_into_digest


class NotificationMailer:
    """No transaction is open while the mail server is talked to.

    A mail that is sent again, after a worker died with its outcome, has the same Message-ID. Mailboxes know it by that.
    """

    def __init__(self, database: Database, settings: Settings, mailer: Mailer) -> None:
        self._database = database
        self._settings = settings
        self._mailer = mailer

    async def send(self, notification_id: UUID) -> None:
        """Send it, unless its person has left or wants no mail any more.

        Raises:
            MailDelayed: try again later.
            OutcomeUnknown: the server may have it.
            Hopeless: the server won't ever take it.
        """
        notification = await self._read_within_budget(notification_id)
        if notification is None:
            return
        try:
            await self._mailer.send(compose(notification))
        except (MailRefused, ValueError) as error:
            raise Hopeless(str(error)) from error
        except MailUncertain as error:
            raise OutcomeUnknown(str(error)) from error
        async with self._database.unit_of_work() as transaction:
            await note_mailed(transaction, notification_id)

    async def _read_within_budget(self, notification_id: UUID) -> NotificationMail | None:
        """What to mail; None if there is nothing to be mailed, or the digest of the day is to tell of it."""
        recipient, actor = aliased(User), aliased(User)
        statement = (
            select(Notification, recipient, actor.display_name, Task.due_at)
            .join(recipient, recipient.id == Notification.user_id)
            .outerjoin(actor, actor.id == Notification.actor_id)
            .outerjoin(Task, Task.id == Notification.task_id)
            .where(Notification.id == notification_id, recipient.is_active, recipient.mail_notifications)
            .where(recipient.email_confirmed_at.is_not(None))
        )
        async with self._database.unit_of_work() as transaction:
            found = await transaction.first(statement)
            if found is not None and await is_used_up(transaction, self._settings, found[0]):
                await put_into_digest(transaction, found[0].user_id)
                return None
        if found is None:
            return None
        notification, person, actor_name, task_due_at = found
        return NotificationMail(
            kind=notification.kind,
            recipient_name=person.display_name,
            recipient_address=person.email,
            actor_name=actor_name,
            task_title=notification.task_title,
            task_id=notification.task_id,
            due_at=task_due_at if notification.kind is NotificationKind.ASSIGNED else notification.due_at,
            time_zone=person.time_zone,
            link=task_link(self._settings, notification.task_id),
            message_id=message_id_of(self._settings, notification_id),
        )
