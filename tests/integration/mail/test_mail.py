"""Mail on its way to a real SMTP server: what arrives, how the way is protected, and how it fails."""

import os
import re
import socket
import subprocess
import sys
import textwrap
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from app.config import Settings
from app.mail import smtp
from app.mail.mailer import MailDelayed, MailRefused, MailUncertain, RecipientDelayed
from app.mail.message import Mail
from app.mail.smtp import SmtpMailer
from tests.conftest import ROOT
from tests.utils.certificates import Certificate, make_certificate
from tests.utils.mail_server import HANG_UP, SILENCE, MailServer
from tests.utils.processes import free_port

PASSWORD = "hunter2/with@marks"
ENCODED = "hunter2%2Fwith%40marks"
MAIL = Mail(
    to="grace@example.org",
    subject="Ada gave you a task: Größere Körbe für die Königin – noch heute, bitte, sonst schwärmt sie aus 🐝",
    text="Hallo Grace,\n\n.\nGrüße\n",
    html="<p>Hallo Grace</p>\n",
    message_id="<notification.1@example.org>",
)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def trusted(certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> Certificate:
    """The certificate, as one that this machine trusts."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
    return certificate


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


def mailer(port: int, *, scheme: str = "smtp", user: str = "", option: str = "") -> SmtpMailer:
    address = f"{scheme}://{user}127.0.0.1:{port}{option}"
    return SmtpMailer(
        Settings(_env_file=None, smtp_url=SecretStr(address), mail_from="Bienenstock „Süd“ <hive@example.org>")
    )


async def test_a_mail_arrives_once_with_its_headers_and_both_parts(server: MailServer) -> None:
    await mailer(server.port).send(MAIL)

    [mail] = server.received
    assert (mail.sender, mail.recipients) == ("hive@example.org", ["grace@example.org"])
    [sender] = mail.message["From"].addresses
    assert (sender.display_name, sender.addr_spec) == ("Bienenstock „Süd“", "hive@example.org")
    assert mail.message["To"] == "grace@example.org"
    assert mail.message["Subject"] == MAIL.subject
    assert mail.message["Message-ID"] == "<notification.1@example.org>"
    assert mail.message["Auto-Submitted"] == "auto-generated"
    assert abs(datetime.now(UTC) - parsedate_to_datetime(mail.message["Date"])) < timedelta(minutes=1)
    assert mail.message.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in mail.message.iter_parts()] == ["text/plain", "text/html"]
    assert (mail.part("plain"), mail.part("html")) == (MAIL.text, MAIL.html)


async def test_what_is_sent_is_ascii_in_short_lines(server: MailServer) -> None:
    await mailer(server.port).send(MAIL)

    content = server.received[0].content
    assert content.isascii()
    assert max(len(line) for line in content.split(b"\r\n")) <= 78
    assert b"\n" not in content.replace(b"\r\n", b"")


async def test_one_mailer_sends_many(server: MailServer) -> None:
    sender = mailer(server.port)

    for _ in range(3):
        await sender.send(MAIL)

    assert len(server.received) == 3


# How the way is protected.


async def test_a_connection_becomes_encrypted_where_the_server_offers_it(trusted: Certificate) -> None:
    with MailServer(starttls=trusted.server_context) as server:
        await mailer(server.port).send(MAIL)

    assert [mail.is_encrypted for mail in server.received] == [True]


async def test_a_connection_stays_plain_where_nothing_else_is_offered_or_wanted(trusted: Certificate) -> None:
    with MailServer() as server:
        await mailer(server.port).send(MAIL)
        assert [mail.is_encrypted for mail in server.received] == [False]
    with MailServer(starttls=trusted.server_context) as server:
        await mailer(server.port, option="?starttls=never").send(MAIL)
        assert [mail.is_encrypted for mail in server.received] == [False]


async def test_a_connection_that_has_to_be_encrypted_is_or_carries_nothing(trusted: Certificate) -> None:
    with MailServer(starttls=trusted.server_context) as server:
        await mailer(server.port, option="?starttls=required").send(MAIL)
        assert [mail.is_encrypted for mail in server.received] == [True]
    with MailServer(password=PASSWORD) as server:
        with pytest.raises(MailDelayed, match="STARTTLS"):
            await mailer(server.port, user=f"hive:{ENCODED}@", option="?starttls=required").send(MAIL)
        assert (server.received, server.attempts) == ([], [])


async def test_tls_from_the_first_byte(trusted: Certificate) -> None:
    with MailServer(tls=trusted.server_context) as server:
        await mailer(server.port, scheme="smtps").send(MAIL)

    assert [mail.is_encrypted for mail in server.received] == [True]


@pytest.mark.parametrize("option", ["", "?starttls=required"])
async def test_a_certificate_that_nobody_trusts_is_refused(certificate: Certificate, option: str) -> None:
    with MailServer(starttls=certificate.server_context) as server:
        with pytest.raises(MailDelayed, match=r"(?i)certificate"):
            await mailer(server.port, option=option).send(MAIL)
        assert server.received == []


async def test_a_certificate_that_nobody_trusts_is_refused_from_the_first_byte(certificate: Certificate) -> None:
    with MailServer(tls=certificate.server_context) as server:
        with pytest.raises(MailDelayed, match=r"(?i)certificate"):
            await mailer(server.port, scheme="smtps").send(MAIL)
        assert server.received == []


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
async def test_a_certificate_of_another_host_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    others = make_certificate(tmp_path, name="DNS:mail.example.org")
    monkeypatch.setenv("SSL_CERT_FILE", str(others.path))
    context = others.server_context

    with MailServer(tls=context) if scheme == "smtps" else MailServer(starttls=context) as server:
        with pytest.raises(MailDelayed, match=r"(?i)certificate"):
            await mailer(server.port, scheme=scheme).send(MAIL)
        assert server.received == []


# Signing in.


async def test_hive_signs_in_with_user_and_password(trusted: Certificate) -> None:
    with MailServer(starttls=trusted.server_context, password=PASSWORD) as server:
        await mailer(server.port, user=f"hive%40example.org:{ENCODED}@").send(MAIL)

    assert [mail.user for mail in server.received] == ["hive@example.org"]


async def test_a_wrong_password_delays_mail_and_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    with MailServer(password="another one") as server:
        with pytest.raises(MailDelayed, match=r"user and password \(535\)") as delayed:
            await mailer(server.port, user=f"hive:{ENCODED}@").send(MAIL)
        assert server.attempts
        assert server.received == []
    ours = [record for record in caplog.records if record.name != "mail.log"]
    told = "".join(traceback.format_exception(delayed.value)) + "".join(record.getMessage() for record in ours)
    assert "hunter2" not in told


async def test_a_server_without_sign_in_gets_no_mail_from_who_has_a_password(server: MailServer) -> None:
    with pytest.raises(MailDelayed, match="sign in"):
        await mailer(server.port, user=f"hive:{ENCODED}@").send(MAIL)

    assert server.received == []


# Failures.


@pytest.mark.parametrize("command", ["RCPT", "DATA"])
async def test_a_refusal_for_good_is_one(command: str) -> None:
    said = r"550 5\.1\.1 No such user here\.$"

    with MailServer(answers={command: "550 5.1.1 No such user here"}) as server, pytest.raises(MailRefused, match=said):
        await mailer(server.port).send(MAIL)


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("answer", ["451 4.7.1 Come back later", "421 4.3.2 Going down"])
async def test_a_refusal_for_now_delays_mail(command: str, answer: str) -> None:
    with MailServer(answers={command: answer}) as server:
        with pytest.raises(MailDelayed, match=answer) as delayed:
            await mailer(server.port).send(MAIL)
        assert not isinstance(delayed.value, MailUncertain)


@pytest.mark.parametrize(
    ("command", "answer", "is_well"),
    [
        ("RCPT", "450 4.2.0 Greylisted", True),
        ("RCPT", "451 Greylisted", True),
        ("RCPT", "452 4.2.2 Mailbox full", True),
        ("RCPT", "421 4.3.2 Going down", False),
        ("MAIL", "451 4.7.1 Come back later", False),
        ("MAIL", "550 5.7.1 Not from here", False),
        ("DATA", "451 4.7.1 Greylisted", True),
        ("DATA", "452 4.3.1 Disk full", False),
        ("DATA", "451 Local error", False),
        ("DATA", "421 4.7.0 Going down", False),
    ],
)
async def test_only_an_answer_about_a_mail_says_that_the_server_is_well(
    command: str, answer: str, *, is_well: bool
) -> None:
    with MailServer(answers={command: answer}) as server, pytest.raises(MailDelayed) as delayed:
        await mailer(server.port).send(MAIL)

    assert isinstance(delayed.value, RecipientDelayed) is is_well


async def test_a_refused_sender_is_not_the_recipients_fault() -> None:
    with (
        MailServer(answers={"MAIL": "550 5.7.1 Not from here"}) as server,
        pytest.raises(MailDelayed, match="MAIL_FROM"),
    ):
        await mailer(server.port).send(MAIL)


async def test_a_server_that_is_away_delays_mail() -> None:
    with pytest.raises(MailDelayed, match="can't be used") as delayed:
        await mailer(free_port()).send(MAIL)

    assert not isinstance(delayed.value, MailUncertain)


async def test_a_host_that_does_not_exist_delays_mail() -> None:
    settings = Settings(_env_file=None, smtp_url=SecretStr("smtp://no..host:25"), mail_from="hive@example.org")

    with pytest.raises(MailDelayed):
        await SmtpMailer(settings).send(MAIL)


async def test_a_server_that_says_nothing_delays_mail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp, "COMMAND_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(MailDelayed) as delayed:
        await mailer(silent.getsockname()[1]).send(MAIL)

    assert not isinstance(delayed.value, MailUncertain)


@pytest.mark.parametrize("answer", [SILENCE, HANG_UP])
async def test_without_a_verdict_nobody_knows(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    monkeypatch.setattr(smtp, "VERDICT_SECONDS", 1.0)
    with MailServer(answers={"DATA": answer}) as server:
        with pytest.raises(MailUncertain, match="or not"):
            await mailer(server.port).send(MAIL)
        # It's the server that knows.
        assert len(server.received) == 1


@pytest.mark.parametrize(
    "said", ["550 no\x00pe\r\n", "550-one\r\n550-" + "x" * 5_000 + "\r\n550 two\r\n", "550 \xff\xfe\r\n"]
)
async def test_what_a_server_says_is_one_short_printable_sentence(said: str) -> None:
    with MailServer(answers={"RCPT": said.removesuffix("\r\n")}) as server, pytest.raises(MailRefused) as refused:
        await mailer(server.port).send(MAIL)

    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 300


# Trying it, as docs/mail.md says.


def test_the_trial_in_the_docs_sends_a_mail(server: MailServer, tmp_path: Path) -> None:
    [program] = re.findall(r"<< 'END'\n(.*?)\n    END", (ROOT / "docs" / "mail.md").read_text(), re.DOTALL)
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "SMTP_URL": f"smtp://127.0.0.1:{server.port}",
        "MAIL_FROM": "HIVE <hive@example.org>",
    }

    command = [sys.executable, "-", "you@example.org"]
    subprocess.run(command, input=textwrap.dedent(program), env=environment, cwd=tmp_path, text=True, check=True)

    assert [mail.recipients for mail in server.received] == [["you@example.org"]]
