"""The mail that tells somebody of a notification: what is said, and where the words of other people stand in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from app.config import Settings
from app.mail.message import Mail
from app.mail.text import one_line
from app.models import NotificationKind

_HEADLINES = {
    NotificationKind.ASSIGNED: "{actor} gave you a task",
    NotificationKind.UNASSIGNED: "{actor} took a task back from you",
    NotificationKind.MENTIONED: "{actor} mentioned you",
    NotificationKind.CLAIMED: "{actor} claimed your task",
    NotificationKind.COMPLETED: "{actor} completed your task",
    NotificationKind.REOPENED: "{actor} reopened a task of yours",
    NotificationKind.RELEASED: "{actor} gave your task back",
    NotificationKind.HANDED_OVER: "{actor} handed a task over to you",
    NotificationKind.SIGN_INS_FAILED: "Somebody tried wrong passwords for your account",
    NotificationKind.DUE_IN_A_DAY: "Due in a day",
    NotificationKind.DUE_IN_AN_HOUR: "Due in an hour",
}

# Where it's about no task.
_HEADLINES_WITHOUT_TASK = {
    NotificationKind.MENTIONED: "{actor} mentioned you in the chat",
    NotificationKind.HANDED_OVER: "All tasks of an account were handed over to you",
}

# Nobody's words stand in a subject, which mail programs show to anybody looking over a shoulder: neither a title nor a
# name, both of which a stranger may have chosen.
_SUBJECTS = {
    NotificationKind.ASSIGNED: "You were given a task",
    NotificationKind.UNASSIGNED: "A task was taken back from you",
    NotificationKind.MENTIONED: "You were mentioned",
    NotificationKind.CLAIMED: "Your task was claimed",
    NotificationKind.COMPLETED: "Your task was completed",
    NotificationKind.REOPENED: "A task of yours was reopened",
    NotificationKind.RELEASED: "Your task was given back",
    NotificationKind.HANDED_OVER: "You own what somebody else owned",
    NotificationKind.SIGN_INS_FAILED: "Somebody tried wrong passwords for your account",
    NotificationKind.DUE_IN_A_DAY: "A task is due in a day",
    NotificationKind.DUE_IN_AN_HOUR: "A task is due in an hour",
}

_TEMPLATES = Environment(
    loader=PackageLoader("app.mail"),
    # By the ending of the name: HTML is escaped, and text is not.
    autoescape=select_autoescape(["html"], default=False),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


@dataclass(frozen=True, slots=True)
class NotificationMail:
    """What is to be told, and to whom.

    `actor_name` is None where nobody did it, or nobody knows who. A mention in the chat and the hand-over of an account
    are about no task, so that title and id are None. `link` comes from `task_link`, `message_id` from `message_id_of`.
    """

    kind: NotificationKind
    recipient_name: str
    recipient_address: str
    actor_name: str | None
    task_title: str | None
    task_id: UUID | None
    due_at: datetime | None
    time_zone: str
    link: str | None
    message_id: str


def compose(notification: NotificationMail) -> Mail:
    headline = _headline(notification)
    title = one_line(notification.task_title or "")
    subject = _SUBJECTS[notification.kind]
    words = {
        "recipient": one_line(notification.recipient_name),
        "headline": headline,
        "title": title,
        "task_id": notification.task_id,
        "due": _moment(notification.due_at, notification.time_zone),
        "link": notification.link,
        "subject": subject,
    }
    return Mail(
        to=notification.recipient_address,
        subject=subject,
        text=_TEMPLATES.get_template("notification.txt").render(words),
        html=_TEMPLATES.get_template("notification.html").render(words),
        message_id=notification.message_id,
    )


def compose_address_changed(address: str, message_id: str) -> Mail:
    """Tell who has the old address of an account that it's not the account's any more.

    There's no word of anybody in it, nor the new address: it may be a stranger's mailbox.
    """
    words = {"address": address, "subject": "Your HIVE account has another e-mail address"}
    return Mail(
        to=address,
        subject=words["subject"],
        text=_TEMPLATES.get_template("address_changed.txt").render(words),
        html=_TEMPLATES.get_template("address_changed.html").render(words),
        message_id=message_id,
    )


def compose_confirmation(address: str, link: str, message_id: str) -> Mail:
    """Ask the reader of an address whether they want mail. It has no words that somebody else wrote."""
    return _plain("confirmation.txt", address, "Confirm your address for HIVE", message_id, link=link)


def compose_digest(
    address: str, name: str, day: date, told: Sequence[tuple[NotificationKind, int]], message_id: str
) -> Mail:
    """Tell how many notifications there were beyond those that were mailed."""
    counts = [(_SUBJECTS[kind], count) for kind, count in told]
    words = {"recipient": one_line(name), "day": day.isoformat(), "told": counts}
    return _plain("digest.txt", address, "More notifications than HIVE mails in a day", message_id, **words)


def _plain(template: str, address: str, subject: str, message_id: str, **words: object) -> Mail:
    """A mail whose HTML is its text."""
    text = _TEMPLATES.get_template(template).render(words)
    html = _TEMPLATES.get_template("plain.html").render(subject=subject, text=text)
    return Mail(to=address, subject=subject, text=text, html=html, message_id=message_id)


def confirmation_link(settings: Settings, code: str) -> str:
    """Where the address is confirmed; a path alone where it's not known under which name HIVE is reached."""
    return f"{settings.public_url or ''}/api/v1/auth/confirm?code={code}"


def task_link(settings: Settings, task_id: UUID | None) -> str | None:
    """Where the task can be looked at, if it's known where that is."""
    if settings.public_url is None or task_id is None:
        return None
    return f"{settings.public_url}/tasks/{task_id}"


def message_id_of(settings: Settings, told_id: UUID, *, about: str = "notification") -> str:
    """Return the Message-ID of a notification's mail, so that one that is sent twice can be recognized."""
    domain = settings.mail_sender.domain if settings.mail_sender else "hive.invalid"
    return f"<{about}.{told_id}@{domain}>"


def _headline(notification: NotificationMail) -> str:
    actor = one_line(notification.actor_name or "") or "Somebody"
    without_task = _HEADLINES_WITHOUT_TASK if notification.task_title is None else {}
    return without_task.get(notification.kind, _HEADLINES[notification.kind]).format(actor=actor)


def _moment(moment: datetime | None, time_zone: str) -> str | None:
    """Write the time as it is there, with the zone's name, and its offset unless it is UTC's own."""
    if moment is None:
        return None
    local = moment.astimezone(ZoneInfo(time_zone))
    offset = "" if time_zone == "UTC" else f" (UTC{local.isoformat()[-6:]})"
    return f"{local:%Y-%m-%d %H:%M} {time_zone}{offset}"
