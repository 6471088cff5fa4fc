"""A real SMTP server for tests, in a thread of its own, that can be told how to answer."""

import asyncio
import ssl
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from types import TracebackType
from typing import Any, Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.utils.processes import free_port

SILENCE = "silence"
HANG_UP = "hang up"


@dataclass(frozen=True)
class ReceivedMail:
    sender: str
    recipients: list[str]
    content: bytes
    is_encrypted: bool
    user: str | None

    @property
    def message(self) -> EmailMessage:
        message = message_from_bytes(self.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        return message

    def part(self, kind: str) -> str:
        """The text of its part of this kind, such as `html`."""
        body = self.message.get_body((kind,))
        assert isinstance(body, EmailMessage)
        content: str = body.get_content()
        return content.replace("\r\n", "\n")


class MailServer:
    """`answers` has what it says to a command instead of taking it, `password` what it lets its user in with.

    After `DATA` it has the mail already, whatever it then says.
    """

    def __init__(
        self,
        *,
        answers: dict[str, str] | None = None,
        password: str | None = None,
        starttls: ssl.SSLContext | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.received: list[ReceivedMail] = []
        self.attempts: list[LoginPassword] = []
        self.answers = answers or {}
        self.password = password
        self.port = free_port()
        self._controller = Controller(
            self,
            hostname="127.0.0.1",
            port=self.port,
            ssl_context=tls,
            tls_context=starttls,
            authenticator=self._authenticate if password else None,
            auth_require_tls=password is None,
        )

    def __enter__(self) -> Self:
        self._controller.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._controller.stop()

    def _authenticate(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: LoginPassword
    ) -> AuthResult:
        self.attempts.append(data)
        is_right = data.password.decode() == self.password
        # A careless server, which repeats what it was told.
        wrong = f"535 5.7.8 {data.login.decode()} is not let in with {data.password.decode()}"
        return AuthResult(success=is_right, handled=False, message=None if is_right else wrong, auth_data=data)

    async def handle_MAIL(  # noqa: N802  # aiosmtpd finds it by this name.
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        envelope.mail_from = address
        return self.answers.get("MAIL", "250 OK")

    async def handle_RCPT(  # noqa: N802  # The same.
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        envelope.rcpt_tos.append(address)
        return self.answers.get("RCPT", "250 OK")

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802  # The same.
        self.received.append(_received(server, session, envelope))
        answer = self.answers.get("DATA", "250 OK")
        if answer == HANG_UP:
            transport: Any = server.transport
            transport.abort()
        if answer == SILENCE:
            await asyncio.Event().wait()
        return answer


def _received(server: SMTP, session: Session, envelope: Envelope) -> ReceivedMail:
    assert isinstance(envelope.content, bytes)
    transport: Any = server.transport
    return ReceivedMail(
        sender=str(envelope.mail_from),
        recipients=[str(address) for address in envelope.rcpt_tos],
        content=envelope.content,
        is_encrypted=transport.get_extra_info("sslcontext") is not None,
        user=session.auth_data.login.decode() if session.auth_data else None,
    )
