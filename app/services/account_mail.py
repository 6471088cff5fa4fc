"""Mail about an account itself, which goes to its address and needs no notification."""

from uuid import UUID

from sqlalchemy import func, select
from uuid_utils.compat import uuid7

from app.config import Settings
from app.core.security import hash_secret
from app.db.transaction import Transaction
from app.events.jobs import ask_once
from app.mail.compose import compose_address_changed, message_id_of
from app.mail.mailer import Mailer, MailRefused, MailUncertain
from app.models import JobName, User
from app.services.job_service import Hopeless, OutcomeUnknown


async def tell_old_address(transaction: Transaction, user: User) -> None:
    """Ask for a mail to the address that the account has, and is about to lose; one a day at most."""
    if user.email_confirmed_at is None:
        # It may never have been theirs.
        return
    day = await transaction.scalar(select(func.to_char(func.now(), "YYYY-MM-DD")))
    key = f"{hash_secret(user.email_key)}/{day}"
    await ask_once(transaction, JobName.SEND_ACCOUNT_MAIL, key=key, address=user.email, mail_id=str(uuid7()))


async def send_account_mail(settings: Settings, mailer: Mailer, *, address: str, mail_id: UUID) -> None:
    """Tell this address that it isn't its account's any more.

    Raises:
        MailDelayed: try again later.
        OutcomeUnknown: the server may have it.
        Hopeless: the server won't ever take it.
    """
    try:
        await mailer.send(compose_address_changed(address, message_id_of(settings, mail_id, about="account")))
    except (MailRefused, ValueError) as error:
        raise Hopeless(str(error)) from error
    except MailUncertain as error:
        raise OutcomeUnknown(str(error)) from error
