"""Which addresses are somebody's who wants mail: those that were confirmed by a link that was mailed to them."""

from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import func, select

from app.config import Settings
from app.core.confirmations import Confirmation, make_confirmation
from app.core.errors import NotFound
from app.core.security import hash_secret
from app.database import Database
from app.db.transaction import Transaction
from app.events.jobs import ask_once
from app.mail.compose import compose_confirmation, confirmation_link, message_id_of
from app.mail.mailer import Mailer, MailRefused, MailUncertain
from app.models import JobName, User
from app.services.job_service import Hopeless, OutcomeUnknown


class ConfirmationNotValid(NotFound):
    """The code is invented, too old, or for an address that the account no longer has. The answer doesn't say which."""

    code = "confirmation_not_valid"

    def __init__(self) -> None:
        super().__init__("This link does not confirm an address, or no longer; ask for another one.")


async def ask_for_confirmation(transaction: Transaction, user: User) -> None:
    """Ask for a mail with the link to the account's address, unless it's confirmed; four a day at most."""
    if user.email_confirmed_at is not None:
        return
    quarter = await transaction.scalar(select(func.floor(func.extract("epoch", func.now()) / (6 * 3600))))
    key = f"{hash_secret(user.email_key)}/{quarter}"
    await ask_once(transaction, JobName.SEND_CONFIRMATION, key=key, user_id=str(user.id))


async def send_confirmation(database: Database, settings: Settings, mailer: Mailer, user_id: UUID) -> None:
    """Mail the link, unless the address is confirmed already, or the account has ended.

    Raises:
        MailDelayed: try again later.
        OutcomeUnknown: the server may have it.
        Hopeless: the server won't ever take it.
    """
    unconfirmed = select(User).where(User.id == user_id, User.is_active, User.email_confirmed_at.is_(None))
    async with database.unit_of_work() as transaction:
        user = await transaction.scalar(unconfirmed)
    if user is None:
        return
    code = make_confirmation(user.id, user.email_key, key=settings.signing_key, now=datetime.now(UTC))
    message_id = message_id_of(settings, user.id, about=f"confirmation.{code[-12:]}")
    try:
        await mailer.send(compose_confirmation(user.email, confirmation_link(settings, code), message_id))
    except (MailRefused, ValueError) as error:
        raise Hopeless(str(error)) from error
    except MailUncertain as error:
        raise OutcomeUnknown(str(error)) from error


async def confirm_address(transaction: Transaction, code: str, *, key: str) -> None:
    """Note that the account's address is confirmed; a second time changes nothing.

    Raises:
        ConfirmationNotValid: the code isn't one for the address that the account has now.
    """
    confirmation = Confirmation.read(code)
    if confirmation is None:
        raise ConfirmationNotValid
    person = select(User).where(User.id == confirmation.user_id, User.is_active, User.email_key.is_not(None))
    user = await transaction.scalar(person.with_for_update(key_share=True))
    if user is None or not confirmation.is_of(user.email_key, key=key, now=datetime.now(UTC)):
        raise ConfirmationNotValid
    if user.email_confirmed_at is None:
        user.email_confirmed_at = func.now()
        await transaction.flush()
