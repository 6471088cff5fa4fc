"""Handing mail to the server of `SMTP_URL`, one connection a mail."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

from aiosmtplib import SMTP, SMTPException, SMTPResponseException

from app.causes.cause import chain
from app.causes.network import Server, why_unreachable
from app.config import ConfigurationError, Settings
from app.mail.mailer import MailDelayed, Mailer, MailRefused, MailUncertain, NoMailer, RecipientDelayed
from app.mail.message import Mail, write
from app.mail.text import one_line
from app.mail_settings import SmtpServer

# How long the server may take to accept a connection or to answer a command.
COMMAND_SECONDS = 10.0
# The same for its answer to a whole mail, which it may look through for viruses first. Who gives up
# too early here has it sent twice (RFC 1047).
VERDICT_SECONDS = 60.0
FAREWELL_SECONDS = 2.0
LONGEST_REMARK = 200
GOES_AWAY = 421
# What enhanced codes (RFC 3463) say of an address, a mailbox, a content or a rule. Others are about the server.
ABOUT_MAIL = re.compile(r"4\.[1267]\.")
SMTP_SERVER = Server("the mail server", "SMTP_URL", "SSL_CERT_FILE in the environment")

# What an absent, refusing, stalled or broken server raises, and a name that can't be looked up.
SMTP_FAILURES = (SMTPException, OSError, UnicodeError)


def mailer_of(settings: Settings) -> Mailer:
    return NoMailer() if settings.smtp_url is None else SmtpMailer(settings)


class SmtpMailer:
    """
    Raises:
        ConfigurationError: the settings name no server, or no sender.
    """

    def __init__(self, settings: Settings) -> None:
        server, sender = settings.smtp_server, settings.mail_sender
        if server is None or sender is None:
            raise ConfigurationError("Sending mail needs SMTP_URL and MAIL_FROM.")
        self._server = server
        self._sender = sender

    async def check(self) -> None:
        """Connect and sign in, and send nothing.

        Raises:
            MailDelayed: the server can't be used, or accepts neither user nor password.
        """
        async with _connected(self._server) as client:
            await _sign_in(client, self._server)

    async def send(self, mail: Mail) -> None:
        """What it raises says `Mailer.send`."""
        content = write(mail, sender=self._sender, date=datetime.now(UTC)).as_bytes()
        async with _connected(self._server) as client:
            await _sign_in(client, self._server)
            await _address(client, sender=self._sender.addr_spec, recipient=mail.to)
            await _hand_over(client, content)


@asynccontextmanager
async def _connected(server: SmtpServer) -> AsyncIterator[SMTP]:
    """A connection that is as protected as the settings want it, or none."""
    client = SMTP(
        hostname=server.host,
        port=server.port,
        use_tls=server.is_tls,
        start_tls=False if server.is_tls else {"required": True, "offered": None, "never": False}[server.starttls],
        timeout=COMMAND_SECONDS,
    )
    try:
        await client.connect()
    except SMTP_FAILURES as error:
        raise MailDelayed(_why_unconnected(error)) from error
    try:
        yield client
    finally:
        # Whatever becomes of the farewell, the mail's fate is known.
        with suppress(*SMTP_FAILURES):
            await client.quit(timeout=FAREWELL_SECONDS)
        client.close()


def _why_unconnected(error: Exception) -> str:
    """The cause, if it's one of the network's; the library names the host in each of its own sentences."""
    for found in chain(error):
        if cause := why_unreachable(found, SMTP_SERVER):
            return f"The mail server can't be used: {cause.sentence}"
    return f"The mail server can't be used: {_remark(error)}"


async def _sign_in(client: SMTP, server: SmtpServer) -> None:
    if server.user is None or server.password is None:
        return
    try:
        await client.login(server.user, server.password)
    except SMTPResponseException as error:
        # Without what the server said: it might repeat what it was told.
        raise MailDelayed(f"The mail server does not accept HIVE's user and password ({error.code}).") from None
    except (*SMTP_FAILURES, ValueError):
        raise MailDelayed("The mail server offers no way to sign in that HIVE knows, or went away meanwhile.") from None


async def _address(client: SMTP, *, sender: str, recipient: str) -> None:
    try:
        await client.mail(sender)
    except SMTP_FAILURES as error:
        # The operator can mend that, and the mail is still wanted.
        raise MailDelayed(f"The mail server takes nothing from the address in MAIL_FROM: {_remark(error)}") from error
    try:
        await client.rcpt(recipient)
    except SMTP_FAILURES as error:
        raise _verdict(error, is_about_recipient=_is_answer(error)) from error


async def _hand_over(client: SMTP, content: bytes) -> None:
    try:
        await client.data(content, timeout=VERDICT_SECONDS)
    except SMTP_FAILURES as error:
        if not isinstance(error, SMTPResponseException) or not 400 <= error.code < 600:
            raise MailUncertain(f"The mail server may have taken the mail, or not: {_remark(error)}") from error
        # Some put off what strangers send, once they have seen it, for a while.
        is_greylisted = _is_answer(error) and ABOUT_MAIL.match(error.message) is not None
        raise _verdict(error, is_about_recipient=is_greylisted) from error


def _is_answer(error: Exception) -> bool:
    """Whether the server has answered for this mail, rather than said farewell to all or gone away."""
    return isinstance(error, SMTPResponseException) and 400 <= error.code < 600 and error.code != GOES_AWAY


def _verdict(error: Exception, *, is_about_recipient: bool) -> MailDelayed | MailRefused:
    is_final = isinstance(error, SMTPResponseException) and 500 <= error.code < 600
    if is_final:
        return MailRefused(f"The mail server refuses this mail: {_remark(error)}")
    kind = RecipientDelayed if is_about_recipient else MailDelayed
    return kind(f"The mail server does not take this mail now: {_remark(error)}")


def _remark(error: Exception) -> str:
    """What went wrong, in the server's words if it has any."""
    said = f"{error.code} {error.message}" if isinstance(error, SMTPResponseException) else str(error)
    return one_line(said or type(error).__name__)[:LONGEST_REMARK].rstrip(".") + "."
