"""Mail to addresses that nobody confirmed, which is none, and the budget of the others for each day."""

import re
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import httpx2
import pytest
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.core.confirmations import HOLDS, Confirmation, make_confirmation
from app.core.permissions import Actor
from app.database import Database
from app.mail.message import Mail
from app.models import Job, JobName, Lane, Notification, NotificationKind, User
from app.services import ChatService, Notifier
from app.services.address_confirmation import send_confirmation
from app.services.mail_budget import send_digest
from app.services.notification_mail import NotificationMailer
from tests.builders.users import PASSWORD, create_user
from tests.conftest import ClientAs
from tests.utils.serving import Serving
from tests.utils.test_utils import problem

KEY = "a key of this test, and of nothing else"
LINK = re.compile(r"/api/v1/auth/confirm\?code=(\S+)")


class Mailbox:
    """Takes each mail."""

    def __init__(self) -> None:
        self.mails: list[Mail] = []

    async def send(self, mail: Mail) -> None:
        self.mails.append(mail)


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture
def stingy(settings: Settings) -> Settings:
    """Settings with two mails a day for each recipient, and three by each sender."""
    return settings.model_copy(update={"mails_per_recipient_per_day": 2, "mails_per_sender_per_day": 3})


async def notify(session: AsyncSession, person: User, sender: User) -> Notification:
    notification = Notification(
        user_id=person.id, kind=NotificationKind.ASSIGNED, task_title="Orchids", actor_id=sender.id, event_id=uuid4()
    )
    session.add(notification)
    await session.commit()
    return notification


async def jobs(session: AsyncSession, name: JobName) -> list[Job]:
    return list(await session.scalars(select(Job).where(Job.name == name)))


async def register(client: httpx2.AsyncClient) -> str:
    body = {"email": f"{uuid4()}@example.org", "password": PASSWORD, "display_name": "Win a prize"}
    return str((await client.post("/auth/register", json=body)).json()["user"]["id"])


async def test_an_address_that_nobody_confirmed_gets_one_link_and_nothing_else(
    client: httpx2.AsyncClient,
    serving: Serving,
    session: AsyncSession,
    database: Database,
    settings: Settings,
    mailbox: Mailbox,
    user: User,
) -> None:
    await register(client)
    [job] = await jobs(session, JobName.SEND_CONFIRMATION)
    stranger = await session.scalar(select(User).where(User.id != user.id))
    assert stranger is not None
    assert job.lane == Lane.OUTSIDE
    await send_confirmation(database, settings, mailbox, stranger.id)
    [mail] = mailbox.mails
    assert mail.to == stranger.email
    assert "Win a prize" not in mail.subject + mail.text + mail.html

    await serving(ChatService).say(Actor.of(user), f"<@{stranger.id}>!")
    [told] = await jobs(session, JobName.NOTIFY)
    await serving(lambda transaction: Notifier(transaction, sends_mail=True)).tell_of(told.arguments["event_id"])
    notification = await session.scalar(select(Notification))
    assert notification is not None
    await NotificationMailer(database, settings, mailbox).send(notification.id)

    assert await jobs(session, JobName.SEND_MAIL) == []
    assert len(mailbox.mails) == 1


async def test_the_link_confirms_the_address_also_a_second_time(
    client: httpx2.AsyncClient, session: AsyncSession, database: Database, settings: Settings, mailbox: Mailbox
) -> None:
    await register(client)
    stranger = (await session.scalars(select(User))).one()
    await send_confirmation(database, settings, mailbox, stranger.id)
    found = LINK.search(mailbox.mails[0].text)
    assert found is not None

    answers = [await client.get("/auth/confirm", params={"code": found[1]}) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 200]
    await session.refresh(stranger)
    assert stranger.email_confirmed_at is not None
    await send_confirmation(database, settings, mailbox, stranger.id)
    assert len(mailbox.mails) == 1


@pytest.mark.parametrize("code", ["x", "a.b.c", f"{UUID(int=1).hex}.ffffffffff.0", "é.1.2", "." * 200])
async def test_an_invented_code_confirms_nothing(client: httpx2.AsyncClient, code: str) -> None:
    assert problem(await client.get("/auth/confirm", params={"code": code}), 404)["code"] == "confirmation_not_valid"


def test_a_code_is_for_one_address_of_one_account_for_two_days() -> None:
    now, user_id = datetime.now(UTC), uuid4()
    code = make_confirmation(user_id, "ada@example.org", key=KEY, now=now)
    read = Confirmation.read(code)
    assert read is not None
    assert read.user_id == user_id

    assert read.is_of("ada@example.org", key=KEY, now=now + HOLDS - timedelta(minutes=1))
    assert not read.is_of("grace@example.org", key=KEY, now=now)
    assert not read.is_of("ada@example.org", key=KEY + "!", now=now)
    assert not read.is_of("ada@example.org", key=KEY, now=now + HOLDS)


async def test_another_address_has_to_be_confirmed_again(
    client_as: ClientAs, session: AsyncSession, user: User
) -> None:
    client = await client_as(user)
    respelled = {"email": user.email.upper(), "current_password": PASSWORD}
    assert (await client.patch("/users/me", json=respelled)).status_code == 200
    await session.refresh(user)
    assert user.email_confirmed_at is not None

    changed = {"email": f"{uuid4()}@example.org", "current_password": PASSWORD}
    assert (await client.patch("/users/me", json=changed)).status_code == 200

    await session.refresh(user)
    assert user.email_confirmed_at is None
    assert len(await jobs(session, JobName.SEND_CONFIRMATION)) == 1


async def test_links_are_mailed_again_four_times_a_day(client_as: ClientAs, session: AsyncSession) -> None:
    user = await create_user(session, email_confirmed_at=None)
    client = await client_as(user)

    answers = [await client.post("/users/me/confirmation") for _ in range(3)]

    assert {answer.status_code for answer in answers} == {202}
    assert len(await jobs(session, JobName.SEND_CONFIRMATION)) == 1


async def test_beyond_a_recipients_budget_one_digest_tells_of_all(
    session: AsyncSession, database: Database, stingy: Settings, mailbox: Mailbox, user: User
) -> None:
    mailer = NotificationMailer(database, stingy, mailbox)
    for _ in range(5):
        await mailer.send((await notify(session, user, await create_user(session))).id)

    assert len(mailbox.mails) == 2
    [digest] = await jobs(session, JobName.SEND_MAIL_DIGEST)
    assert digest.run_after > datetime.now(UTC)
    day = datetime.now(UTC).date()
    assert digest.arguments == {"user_id": str(user.id), "day": day.isoformat()}
    await send_digest(database, stingy, mailbox, user.id, day)
    assert "3 × You were given a task" in mailbox.mails[-1].text
    assert "Orchids" not in mailbox.mails[-1].text


async def test_a_sender_has_a_budget_over_all_recipients(
    session: AsyncSession, database: Database, stingy: Settings, mailbox: Mailbox, user: User
) -> None:
    mailer = NotificationMailer(database, stingy, mailbox)
    people = [await create_user(session) for _ in range(5)]
    for person in people:
        await mailer.send((await notify(session, person, user)).id)

    assert len(mailbox.mails) == 3
    assert len(await jobs(session, JobName.SEND_MAIL_DIGEST)) == 2
    await session.execute(update(Notification).values(mailed_at=func.now() - timedelta(days=1)))
    await session.commit()
    await mailer.send((await notify(session, people[0], user)).id)
    assert len(mailbox.mails) == 4
