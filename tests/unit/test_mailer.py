"""Which mailer the settings ask for."""

import pytest
from pydantic import SecretStr

from app.config import ConfigurationError, Settings
from app.mail.mailer import NoMailer
from app.mail.message import Mail
from app.mail.smtp import SmtpMailer, mailer_of

MAIL = Mail("grace@example.org", "Hello", "Hello\n", "<p>Hello</p>\n", "<1@example.org>")


async def test_without_a_server_mail_goes_nowhere_and_fails_nothing() -> None:
    nobody = mailer_of(Settings(_env_file=None))

    assert isinstance(nobody, NoMailer)
    await nobody.send(MAIL)


def test_with_a_server_mail_goes_there() -> None:
    settings = Settings(_env_file=None, smtp_url=SecretStr("smtp://h"), mail_from="hive@example.org")

    assert isinstance(mailer_of(settings), SmtpMailer)


def test_a_mailer_of_nothing_says_what_it_needs() -> None:
    with pytest.raises(ConfigurationError, match="SMTP_URL"):
        SmtpMailer(Settings(_env_file=None))
