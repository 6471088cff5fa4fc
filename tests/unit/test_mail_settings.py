"""What the settings of mail may look like, and that a refusal tells nobody a password."""

import pytest
from pydantic import SecretStr, ValidationError

from app.config import ConfigurationError, Settings, load_settings
from app.mail_settings import SmtpServer, is_mail_address, read_public_url, read_sender, read_smtp_url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://mail.example.org", SmtpServer("mail.example.org", 587, is_tls=False, starttls="offered")),
        ("smtp://mail.example.org:25/", SmtpServer("mail.example.org", 25, is_tls=False, starttls="offered")),
        ("smtps://mail.example.org", SmtpServer("mail.example.org", 465, is_tls=True, starttls="offered")),
        ("smtp://[2001:db8::1]:25", SmtpServer("2001:db8::1", 25, is_tls=False, starttls="offered")),
        ("smtp://h?starttls=required", SmtpServer("h", 587, is_tls=False, starttls="required")),
        ("smtp://h?starttls=never", SmtpServer("h", 587, is_tls=False, starttls="never")),
    ],
)
def test_an_address_says_where_and_how(url: str, expected: SmtpServer) -> None:
    assert read_smtp_url(url) == expected


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_user_and_password_may_have_any_character(scheme: str) -> None:
    server = read_smtp_url(f"{scheme}://hive%40example.org:%25p%40s%2Fs%3Aw%23%3F%C3%B6@h")

    assert (server.user, server.password) == ("hive@example.org", "%p@s/s:w#?ö")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://u:p@mail.example.org", "required"),
        ("smtp://u:p@10.0.0.1", "required"),
        ("smtp://u:p@mail.example.org?starttls=offered", "offered"),
        ("smtp://u:p@mail.example.org?starttls=never", "never"),
        ("smtp://u:p@localhost", "offered"),
        ("smtp://u:p@127.0.0.1:1025", "offered"),
        ("smtp://u:p@[::1]:1025", "offered"),
        ("smtp://u:p@localhost.example.org", "required"),
    ],
)
def test_a_password_leaves_this_machine_encrypted_unless_somebody_decides_otherwise(url: str, expected: str) -> None:
    assert read_smtp_url(url).starttls == expected


UNREADABLE = [
    "mail.example.org",
    "mail.example.org:587",
    "http://mail.example.org",
    "smtp:mail.example.org",
    "smtp://",
    "smtp://:587",
    "smtp://user:hunter2@",
    "smtp://mail.example.org:port",
    "smtp://mail.example.org:99999",
    "smtp://mail.example.org/inbox",
    "smtp://user@mail.example.org",
    "smtp://:hunter2@mail.example.org",
    "smtp://user:hunter2/more@mail.example.org",
    "smtp://user:hunter2#more@mail.example.org",
    "smtp://user:hunter2?more@mail.example.org",
    "smtp://user:hunter2@[mail.example.org",
    "smtp://mail.example.org?starttls=perhaps",
    "smtp://mail.example.org?starttls=",
    "smtp://mail.example.org?timeout=5",
    "smtps://mail.example.org?starttls=required",
]


@pytest.mark.parametrize("url", UNREADABLE)
def test_an_address_that_can_not_be_read_is_said_in_a_sentence_without_it(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("SMTP_URL", url)
    monkeypatch.setenv("MAIL_FROM", "hive@example.org")

    with pytest.raises(ConfigurationError) as refused:
        load_settings()

    assert " SMTP_URL: " in str(refused.value)
    assert "hunter2" not in str(refused.value)
    assert "hunter2" not in repr(refused.value.__cause__)


def test_a_server_without_a_sender_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMTP_URL", "smtp://user:hunter2@mail.example.org")

    with pytest.raises(ConfigurationError, match=r"^HIVE can't start with these settings: MAIL_FROM is missing; .*\.$"):
        load_settings()


def test_a_password_is_never_shown() -> None:
    settings = Settings(_env_file=None, smtp_url=SecretStr("smtp://u:hunter2@h"), mail_from="hive@example.org")

    assert "hunter2" not in repr(settings) + repr(settings.smtp_server)


def test_without_mail_there_is_no_server_and_no_sender() -> None:
    settings = Settings(_env_file=None)

    assert (settings.smtp_server, settings.mail_sender) == (None, None)


@pytest.mark.parametrize(
    ("text", "name", "address"),
    [
        ("hive@example.org", "", "hive@example.org"),
        ("<hive@example.org>", "", "hive@example.org"),
        ("HIVE <hive@example.org>", "HIVE", "hive@example.org"),
        (' "Hive, Inc." <hive+x@example.org> ', "Hive, Inc.", "hive+x@example.org"),
        ("Bienenstock „Süd“ <hive@localhost>", "Bienenstock „Süd“", "hive@localhost"),
    ],
)
def test_a_sender_is_an_address_with_or_without_a_name(text: str, name: str, address: str) -> None:
    sender = read_sender(text)

    assert (sender.display_name, sender.addr_spec) == (name, address)


@pytest.mark.parametrize(
    "text",
    [
        "HIVE",
        "HIVE <>",
        "HIVE <hive@example.org",
        "hive@example.org>",
        "HIVE hive@example.org",
        "hive@",
        "@example.org",
        "a@example.org, b@example.org",
        "<a@example.org> <b@example.org>",
        "HIVE <hive@bücher.example>",
        "HIVE\r\nBcc: all@example.org <hive@example.org>",
        "HIVE <hive@example.org\r\nBcc:all@example.org>",
        "HI\u2028VE <hive@example.org>",
    ],
)
def test_what_is_no_sender_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="ASCII"):
        Settings(_env_file=None, mail_from=text)


@pytest.mark.parametrize("text", ["a@b", "a.b+c@example.org", "o'neil@example.org", "a@xn--bcher-kva.example"])
def test_addresses_of_accounts_can_be_written_to(text: str) -> None:
    assert is_mail_address(text)


@pytest.mark.parametrize(
    "text", ["", "a", "a@", "a b@c", "a@b\n", "a@b\r\nRCPT TO:<x@y>", "a@b> SIZE=1", "<a@b>", '"a"@b', "ä@b", "a@b@c"]
)
def test_what_would_end_a_header_or_a_command_can_not(text: str) -> None:
    assert not is_mail_address(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://hive.example.org", "https://hive.example.org"),
        ("https://example.org/hive/", "https://example.org/hive"),
        ("http://localhost:8000/#/", "http://localhost:8000/#"),
    ],
)
def test_a_public_address_is_one_that_a_path_can_follow(text: str, expected: str) -> None:
    assert read_public_url(text) == expected
    assert Settings(_env_file=None, public_url=text).public_url == expected


@pytest.mark.parametrize(
    "text",
    [
        "hive.example.org",
        "javascript:alert(1)",
        "ftp://example.org",
        "https://",
        "https://a b",
        "https://a\nb",
        "https://example.org/a/../b",
        "https://example.org//hive",
        "https://example.org/h%69ve",
    ],
)
def test_what_is_no_public_address_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="https://hive"):
        Settings(_env_file=None, public_url=text)
