"""One mail, and writing it in the form in which mail travels."""

import re
from dataclasses import dataclass
from datetime import datetime
from email.header import Header
from email.headerregistry import Address, BaseHeader, HeaderRegistry, UnstructuredHeader
from email.message import EmailMessage
from email.policy import SMTP, Policy
from email.utils import format_datetime
from typing import Any

from app.mail.text import one_line
from app.mail_settings import is_mail_address

LONGEST_PLAIN_WORD = 60

_MESSAGE_ID = re.compile(r"<[A-Za-z0-9._-]+@[A-Za-z0-9.-]+>")


@dataclass(frozen=True, slots=True)
class Mail:
    """`to` is an address without a name. `message_id` names the mail: who gets it twice can tell by it."""

    to: str
    subject: str
    text: str
    html: str
    message_id: str

    def __post_init__(self) -> None:
        if not is_mail_address(self.to):
            raise ValueError("This address can't be written to.")
        if not _MESSAGE_ID.fullmatch(self.message_id):
            raise ValueError("A Message-ID looks like <name@domain>.")


class _Subject(UnstructuredHeader, BaseHeader):
    """A subject that arrives as it was given.

    The library's own one reads the text as if it were encoded already, and loses spaces where it folds a long one
    that isn't ASCII.
    """

    @classmethod
    def parse(cls, value: str, kwds: dict[str, Any]) -> None:
        super().parse(value, kwds)
        kwds["decoded"] = value

    def fold(self, *, policy: Policy) -> str:
        charset = "ascii" if _is_plain(self) else "utf-8"
        header = Header(self, charset, maxlinelen=policy.max_line_length, header_name=self.name)
        return f"{self.name}: {header.encode(linesep=policy.linesep)}{policy.linesep}"


def _is_plain(text: str) -> bool:
    """Whether it can stand in a header as it is: it doesn't look as if encoded, and can be folded between words."""
    return text.isascii() and "=?" not in text and all(len(word) <= LONGEST_PLAIN_WORD for word in text.split())


_HEADERS = HeaderRegistry()
_HEADERS.map_to_type("subject", _Subject)
_POLICY = SMTP.clone(header_factory=_HEADERS)


def write(mail: Mail, *, sender: Address, date: datetime) -> EmailMessage:
    """The mail with its headers, its text and its HTML; nothing but ASCII once it's bytes."""
    message = EmailMessage(policy=_POLICY)
    message["From"] = sender
    message["To"] = Address(addr_spec=mail.to)
    message["Subject"] = one_line(mail.subject)
    message["Date"] = format_datetime(date)
    message["Message-ID"] = mail.message_id
    # So that nobody's holiday answers it (RFC 3834).
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(mail.text, cte="quoted-printable")
    message.add_alternative(mail.html, subtype="html", cte="quoted-printable")
    return message
