"""What the rest of HIVE knows of sending mail: who does it, how it may fail, and the one that sends none."""

from typing import Protocol

from app.mail.message import Mail


class MailDelayed(Exception):
    """The mail has not left, for a reason that may pass; the message is one sentence without a secret."""


class RecipientDelayed(MailDelayed):
    """The server works, and doesn't take this mail for this recipient yet; it may take others."""


class MailUncertain(MailDelayed):
    """The connection ended while the server was taking the mail: it may have it, or not."""


class MailRefused(Exception):
    """The server won't ever take this mail for this recipient; the message is one sentence without a secret."""


class Mailer(Protocol):
    async def send(self, mail: Mail) -> None:
        """Hand the mail to a server, which answers for it from then on.

        Raises:
            MailDelayed: try again later. With `MailUncertain` the recipient may then have it twice;
                with `RecipientDelayed` the server is well.
            MailRefused: don't try again.
        """


class NoMailer:
    """Where no mail server is configured, mail is nobody's wish, and has been dealt with."""

    async def send(self, mail: Mail) -> None:
        pass
