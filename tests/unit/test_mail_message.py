"""A mail in the form in which it travels: whatever stands in it, it's one mail with these headers."""

from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.headerregistry import Address
from email.message import EmailMessage

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.mail.message import Mail, write
from app.mail.text import one_line

HEADERS = ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type"]
SENDER = Address("HIVE", addr_spec="hive@example.org")
DATE = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)
INJECTION = "Hello\r\nBcc: all@example.org\r\n\r\n<script>"
# A busy machine may take its time; how long it takes is not what is tested.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def mail(*, subject: str = "Hello", text: str = "Hello\n", html: str = "<p>Hello</p>\n") -> Mail:
    return Mail("grace@example.org", subject, text, html, "<1@example.org>")


def travelled(mail: Mail) -> EmailMessage:
    """What a reader sees of it."""
    content = write(mail, sender=SENDER, date=DATE).as_bytes()
    assert content.isascii()
    assert b"\n" not in content.replace(b"\r\n", b"")
    assert b"\r" not in content.replace(b"\r\n", b"")
    message = message_from_bytes(content, policy=policy.default)
    assert isinstance(message, EmailMessage)
    assert message.keys() == HEADERS
    return message


def part(message: EmailMessage, kind: str) -> str:
    body = message.get_body((kind,))
    assert isinstance(body, EmailMessage)
    content: str = body.get_content()
    return content.replace("\r\n", "\n")


@pytest.mark.parametrize(
    "subject",
    [
        "Water the orchids",
        "Größere Körbe, bitte: die Königin hat nicht genug Platz und wird – so fürchte ich – bald schwärmen",
        "Нужно полить орхидеи в офисе до пятницы и проверить влажность, потом сообщить остальным, что всё готово",
        "请给兰花浇水然后检查湿度" * 10,
        "🐝" * 100,
        "x" * 200,
        "Ada gave you a task: " + "x" * 200,
        "Ada gave you a task: " + "water the orchids " * 10 + "soon",
        "=?utf-8?q?not_encoded=0D=0ABcc:_all@example.org?=",
        "=?utf-8?b?broken",
        'Quotes " and \\ and , ; : <a@b> (c)',
    ],
)
def test_a_subject_arrives_as_it_was_given(subject: str) -> None:
    assert travelled(mail(subject=subject))["Subject"] == subject


@unhurried
@given(st.text(max_size=250))
def test_any_subject_arrives_as_one_line(subject: str) -> None:
    assert travelled(mail(subject=subject))["Subject"] == one_line(subject)


@unhurried
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r")))
def test_any_text_arrives_in_both_parts(text: str) -> None:
    message = travelled(mail(text=text, html=text))

    # A text ends with its line.
    assert part(message, "plain").removesuffix("\n") == text.removesuffix("\n")
    assert part(message, "html").removesuffix("\n") == text.removesuffix("\n")


@pytest.mark.parametrize("line_break", ["\r\n", "\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"])
def test_a_subject_makes_no_header_of_its_own(line_break: str) -> None:
    message = travelled(mail(subject=f"Hello{line_break}Bcc: all@example.org"))

    assert message["Subject"] == "Hello Bcc: all@example.org"


@pytest.mark.parametrize("address", [INJECTION, "grace@example.org\r\nBcc: all@example.org", "a@b, c@d", "", "grace"])
def test_an_address_that_is_none_makes_no_mail(address: str) -> None:
    with pytest.raises(ValueError, match="address"):
        Mail(address, "Hello", "", "", "<1@example.org>")


@pytest.mark.parametrize(
    "message_id", ["", "1@example.org", "<1>", "<1@example.org>\r\nBcc: all@example.org", "<a b@c>"]
)
def test_an_id_that_is_none_makes_no_mail(message_id: str) -> None:
    with pytest.raises(ValueError, match="Message-ID"):
        Mail("grace@example.org", "Hello", "", "", message_id)


def test_the_same_mail_has_the_same_id_each_time() -> None:
    first, second = (write(mail(), sender=SENDER, date=DATE) for _ in range(2))

    assert first["Message-ID"] == second["Message-ID"] == "<1@example.org>"


@pytest.mark.parametrize("name", ["", "HIVE", "Hive, Inc.", "Bienenstock „Süd“, Büro für Größeres", "蜂巢", '"quoted"'])
def test_a_sender_is_named_as_it_is(name: str) -> None:
    content = write(mail(), sender=Address(name, addr_spec="hive@example.org"), date=DATE).as_bytes()

    [sender] = message_from_bytes(content, policy=policy.default)["From"].addresses
    assert (sender.display_name, sender.addr_spec) == (name, "hive@example.org")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  a \t b\r\n\r\nc ", "a b c"),
        ("a\x00b\x1b[31mc\x7f\x9b", "a b [31mc"),
        ("a\u2028b\u2029c\x85d", "a b c d"),
        ("gpj.\u202eexe", "gpj. exe"),
        ("half \ud83d a bee", "half a bee"),
        ("🐝 👩\u200d🔬 نحلة", "🐝 👩\u200d🔬 نحلة"),
        ("", ""),
    ],
)
def test_one_line_is_one_line(text: str, expected: str) -> None:
    assert one_line(text) == expected
