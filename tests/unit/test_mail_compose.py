"""What a mail about a notification says, and that nobody's title or name can say more."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from html.parser import HTMLParser
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from app.config import Settings
from app.mail.compose import NotificationMail, compose, message_id_of, task_link
from app.models import NotificationKind

TASK_ID = UUID("01a2090f-0c51-7d0e-a3f9-6a0c7e9c1b11")
LINK = f"https://hive.example.org/tasks/{TASK_ID}"
ASSIGNED = NotificationMail(
    kind=NotificationKind.ASSIGNED,
    recipient_name="Grace",
    recipient_address="grace@example.org",
    actor_name="Ada",
    task_title="Water the orchids",
    task_id=TASK_ID,
    due_at=datetime(2026, 11, 24, 16, 30, tzinfo=timezone(timedelta(hours=1))),
    time_zone="UTC",
    link=LINK,
    message_id="<notification.1@example.org>",
)
HOSTILE = '</p><script src="//evil.example/x.js"></script><img src=//evil.example/p.gif onerror=alert(1)>{{ 7*7 }}{x}%s'


class Page(HTMLParser):
    """The elements and the text of an HTML document."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def with_words(field: str, words: str) -> NotificationMail:
    """The notification with somebody else's words in this place."""
    changes: dict[str, Any] = {field: words}
    return replace(ASSIGNED, **changes)


HEADLINES = {
    NotificationKind.ASSIGNED: "Ada gave you a task",
    NotificationKind.UNASSIGNED: "Ada took a task back from you",
    NotificationKind.MENTIONED: "Ada mentioned you",
    NotificationKind.CLAIMED: "Ada claimed your task",
    NotificationKind.COMPLETED: "Ada completed your task",
    NotificationKind.REOPENED: "Ada reopened a task of yours",
    NotificationKind.RELEASED: "Ada gave your task back",
    NotificationKind.HANDED_OVER: "Ada handed a task over to you",
    NotificationKind.SIGN_INS_FAILED: "Somebody tried wrong passwords for your account",
    NotificationKind.DUE_IN_A_DAY: "Due in a day",
    NotificationKind.DUE_IN_AN_HOUR: "Due in an hour",
}


@pytest.mark.parametrize("kind", NotificationKind)
def test_each_kind_says_what_happened_to_which_task(kind: NotificationKind) -> None:
    mail = compose(replace(ASSIGNED, kind=kind))

    headline = HEADLINES[kind]
    assert f"\n{headline}:\n\n    Water the orchids\n" in mail.text
    assert f"{headline}:" in Page(mail.html).text
    assert "Water the orchids" in Page(mail.html).text


def test_a_whole_mail() -> None:
    mail = compose(ASSIGNED)

    assert (mail.to, mail.message_id) == ("grace@example.org", "<notification.1@example.org>")
    assert mail.text == (
        "Hello Grace,\n\nAda gave you a task:\n\n"
        f"    Water the orchids\n    Due: 2026-11-24 15:30 UTC\n    {LINK}\n\n"
        "HIVE wrote this by itself.\n"
    )


@pytest.mark.parametrize(
    ("time_zone", "due"),
    [
        ("UTC", "2026-10-25 00:30 UTC"),
        ("Europe/Berlin", "2026-10-25 02:30 Europe/Berlin (UTC+02:00)"),
        ("America/New_York", "2026-10-24 20:30 America/New_York (UTC-04:00)"),
        ("Asia/Kathmandu", "2026-10-25 06:15 Asia/Kathmandu (UTC+05:45)"),
    ],
)
def test_mail_tells_times_in_the_time_zone_of_its_reader(time_zone: str, due: str) -> None:
    due_at = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)

    mail = compose(replace(ASSIGNED, due_at=due_at, time_zone=time_zone))

    assert f"    Due: {due}\n" in mail.text
    assert f"Due: {due}" in Page(mail.html).text


def test_hour_that_comes_twice_is_told_with_its_offset() -> None:
    due_at = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)

    mails = [
        compose(replace(ASSIGNED, due_at=due_at + timedelta(hours=hours), time_zone="Europe/Berlin")).text
        for hours in (0, 1)
    ]

    assert "02:30 Europe/Berlin (UTC+02:00)" in mails[0]
    assert "02:30 Europe/Berlin (UTC+01:00)" in mails[1]


def test_html_and_text_say_the_same() -> None:
    mail = compose(ASSIGNED)

    page = Page(mail.html)
    for words in ("Hello Grace,", "Ada gave you a task:", "Water the orchids", "Due: 2026-11-24 15:30 UTC"):
        assert words in mail.text
        assert words in page.text
    assert [attributes["href"] for tag, attributes in page.elements if tag == "a"] == [LINK]


def test_without_a_link_the_id_names_the_task() -> None:
    mail = compose(replace(ASSIGNED, link=None))

    assert f"    Task {TASK_ID}\n" in mail.text
    assert f"Task {TASK_ID}" in Page(mail.html).text
    assert "a" not in {tag for tag, _ in Page(mail.html).elements}


def test_without_a_due_time_none_is_named() -> None:
    mail = compose(replace(ASSIGNED, due_at=None))

    assert "Due" not in mail.text + mail.html
    assert "None" not in mail.text + mail.html


@pytest.mark.parametrize("kind", [NotificationKind.DUE_IN_A_DAY, NotificationKind.DUE_IN_AN_HOUR])
def test_a_reminder_has_no_actor(kind: NotificationKind) -> None:
    mail = compose(replace(ASSIGNED, kind=kind, actor_name=None))

    assert "None" not in mail.subject + mail.text + mail.html
    assert "Somebody" not in mail.subject + mail.text + mail.html


def test_an_actor_whom_nobody_knows_is_somebody() -> None:
    assert "\nSomebody gave you a task:\n" in compose(replace(ASSIGNED, actor_name=None)).text


@pytest.mark.parametrize("kind", NotificationKind)
def test_a_subject_has_nobodys_words(kind: NotificationKind) -> None:
    told = replace(ASSIGNED, kind=kind)
    elsewhere = replace(told, actor_name="Win a prize", task_title="Click here", recipient_name="You")

    assert compose(elsewhere).subject == compose(told).subject


def test_a_mention_in_the_chat_is_about_no_task() -> None:
    mention = replace(ASSIGNED, kind=NotificationKind.MENTIONED, task_title=None, task_id=None, due_at=None, link=None)

    mail = compose(mention)

    assert mail.text == "Hello Grace,\n\nAda mentioned you in the chat.\n\nHIVE wrote this by itself.\n"
    assert "None" not in mail.html


def test_all_tasks_of_an_account_are_no_task() -> None:
    handed_over = replace(
        ASSIGNED, kind=NotificationKind.HANDED_OVER, actor_name=None, task_title=None, task_id=None, link=None
    )

    assert "\nAll tasks of an account were handed over to you.\n" in compose(handed_over).text


@pytest.mark.parametrize("field", ["task_title", "actor_name", "recipient_name"])
def test_words_of_others_are_words_and_nothing_else(field: str) -> None:
    harmless, hostile = compose(ASSIGNED), compose(with_words(field, HOSTILE))

    page = Page(hostile.html)
    assert page.elements == Page(harmless.html).elements
    assert HOSTILE in page.text
    # In a text nothing has to be escaped, so nothing is.
    assert HOSTILE in hostile.text


@pytest.mark.parametrize("field", ["task_title", "actor_name", "recipient_name"])
@pytest.mark.parametrize("line_break", ["\r\n", "\n", "\x85", "\u2028"])
def test_words_of_others_stay_on_their_line(field: str, line_break: str) -> None:
    words = line_break.join(["one", "", "two"])

    harmless, hostile = compose(ASSIGNED), compose(with_words(field, words))

    assert len(hostile.text.splitlines()) == len(harmless.text.splitlines())
    assert len(hostile.html.splitlines()) == len(harmless.html.splitlines())
    assert len(hostile.subject.splitlines()) == 1
    assert "one two" in hostile.text


def test_html_fetches_nothing() -> None:
    page = Page(compose(ASSIGNED).html)

    assert {tag for tag, _ in page.elements}.isdisjoint({"img", "link", "script", "style", "iframe", "object", "form"})
    styles = " ".join(attributes.get("style") or "" for _, attributes in page.elements)
    assert "url(" not in styles


def test_names_in_any_script_are_shown_as_they_are() -> None:
    mail = compose(replace(ASSIGNED, recipient_name="Γκρέις", actor_name="Ада", task_title="给兰花浇水 🐝"))

    for text in (mail.text, Page(mail.html).text):
        assert "Hello Γκρέις," in text
        assert "给兰花浇水 🐝" in text


def settings(**values: object) -> Settings:
    return Settings.model_validate({"smtp_url": SecretStr("smtp://h"), "mail_from": "HIVE <hive@example.org>"} | values)


def test_a_link_leads_to_the_task_where_people_look_at_it() -> None:
    assert task_link(settings(public_url="https://hive.example.org/"), TASK_ID) == LINK
    assert task_link(settings(), TASK_ID) is None
    assert task_link(settings(public_url="https://hive.example.org"), None) is None


def test_a_notification_has_one_message_id() -> None:
    first = message_id_of(settings(), TASK_ID)

    assert first == message_id_of(settings(), TASK_ID) == f"<notification.{TASK_ID}@example.org>"
    assert message_id_of(settings(mail_from=None, smtp_url=None), TASK_ID).endswith("@hive.invalid>")
    compose(replace(ASSIGNED, message_id=first))
