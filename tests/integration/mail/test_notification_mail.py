"""Notifications as mail: from a request, over a real worker, to a real mail server, each once."""

import asyncio
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.database import Database
from app.events.jobs import ask_for_job
from app.mail.mailer import MailDelayed, NoMailer
from app.mail.smtp import SmtpMailer
from app.models import Job, JobName, JobState, Notification, NotificationKind, User
from app.services.job_service import Hopeless, OutcomeUnknown, perform_outside
from app.services.notification_mail import NotificationMailer
from tests.builders.tasks import create_task
from tests.builders.users import create_user
from tests.conftest import ClientAs
from tests.utils.mail_server import HANG_UP, SILENCE, MailServer
from tests.utils.processes import HiveProcess
from tests.utils.test_utils import wait_until, wait_until_async

PAST = {"held_until": None, "run_after": func.now()}
SENDER = "HIVE <hive@example.org>"


def settings_for(server: MailServer) -> Settings:
    url = SecretStr(f"smtp://127.0.0.1:{server.port}")
    return Settings(_env_file=None, smtp_url=url, mail_from=SENDER, public_url="https://hive.example.org")


def mailer_for(server: MailServer, database: Database) -> NotificationMailer:
    settings = settings_for(server)
    return NotificationMailer(database, settings, SmtpMailer(settings))


async def notify(
    session: AsyncSession, person: User, actor: User, *, task_due_at: datetime | None = None, **values: Any
) -> Notification:
    task = await create_task(session, owner=actor, due_at=task_due_at)
    values.setdefault("kind", NotificationKind.ASSIGNED)
    notification = Notification(
        user_id=person.id,
        task_id=task.id,
        task_title=task.title,
        actor_id=actor.id,
        event_id=task.id,
        **values,
    )
    session.add(notification)
    await session.commit()
    return notification


async def test_a_mail_says_who_did_what_and_where(
    session: AsyncSession, database: Database, user: User, other_user: User
) -> None:
    notification = await notify(session, other_user, user)

    with MailServer() as server:
        await mailer_for(server, database).send(notification.id)

    [mail] = server.received
    assert mail.recipients == [other_user.email]
    assert mail.message["Subject"] == "You were given a task"
    assert mail.message["Message-ID"] == f"<notification.{notification.id}@example.org>"
    assert f"https://hive.example.org/tasks/{notification.task_id}" in mail.part("plain")


DUE_AT = datetime(2030, 12, 24, 22, 59, 59, 999999, tzinfo=UTC)


@pytest.mark.parametrize(
    "given",
    [{"task_due_at": DUE_AT}, {"kind": NotificationKind.DUE_IN_A_DAY, "due_at": DUE_AT}],
    ids=["assignment", "reminder"],
)
async def test_mail_tells_the_due_time_where_its_reader_is(
    session: AsyncSession, database: Database, user: User, other_user: User, given: dict[str, Any]
) -> None:
    user.time_zone, other_user.time_zone = "Asia/Tokyo", "Europe/Berlin"
    notification = await notify(session, other_user, user, **given)

    with MailServer() as server:
        await mailer_for(server, database).send(notification.id)

    [mail] = server.received
    for part in ("plain", "html"):
        assert "Due: 2030-12-24 23:59 Europe/Berlin (UTC+01:00)" in mail.part(part)


async def test_mail_of_another_kind_tells_no_due_time(
    session: AsyncSession, database: Database, user: User, other_user: User
) -> None:
    notification = await notify(session, other_user, user, task_due_at=DUE_AT, kind=NotificationKind.CLAIMED)

    with MailServer() as server:
        await mailer_for(server, database).send(notification.id)

    [mail] = server.received
    assert "Due:" not in mail.part("plain")


@pytest.mark.parametrize("change", [{"is_active": False}, {"mail_notifications": False}])
async def test_who_has_left_or_wants_none_gets_none(
    session: AsyncSession, database: Database, user: User, other_user: User, change: dict[str, bool]
) -> None:
    notification = await notify(session, other_user, user)
    await session.execute(update(User).where(User.id == other_user.id).values(**change))
    await session.commit()

    with MailServer() as server:
        await mailer_for(server, database).send(notification.id)

    assert server.received == []


async def test_what_is_delayed_is_tried_again_and_what_is_refused_is_not(
    session: AsyncSession, database: Database, user: User, other_user: User
) -> None:
    notification = await notify(session, other_user, user)

    with MailServer(answers={"RCPT": "450 later"}) as server:
        mailer = mailer_for(server, database)
        with pytest.raises(MailDelayed):
            await mailer.send(notification.id)
        server.answers["RCPT"] = "550 nobody"
        with pytest.raises(Hopeless, match="550 nobody"):
            await mailer.send(notification.id)

    assert server.received == []


@pytest.mark.committed
async def test_of_many_messages_of_one_mail_job_one_is_sent(
    session: AsyncSession, database: Database, user: User, other_user: User
) -> None:
    notification = await notify(session, other_user, user)
    job = Job(name=JobName.SEND_MAIL, arguments={}, state=JobState.SENT)
    session.add(job)
    await session.commit()

    with MailServer() as server:
        mailer = mailer_for(server, database)
        messages = [perform_outside(database, job.id, lambda: mailer.send(notification.id)) for _ in range(10)]
        await asyncio.gather(*messages)

    assert len(server.received) == 1
    await session.refresh(job)
    assert (job.state, job.attempts) == (JobState.DONE, 1)


@pytest.mark.committed
async def test_a_mail_that_may_have_arrived_comes_again_under_its_name(
    session: AsyncSession, database: Database, user: User, other_user: User
) -> None:
    """The server has the mail, and HIVE didn't hear so."""
    notification = await notify(session, other_user, user)
    job = Job(name=JobName.SEND_MAIL, arguments={}, state=JobState.SENT)
    session.add(job)
    await session.commit()

    with MailServer(answers={"DATA": HANG_UP}) as server:
        mailer = mailer_for(server, database)
        with pytest.raises(OutcomeUnknown):
            await perform_outside(database, job.id, lambda: mailer.send(notification.id))
        del server.answers["DATA"]
        await perform_outside(database, job.id, lambda: mailer.send(notification.id))

    assert len({mail.message["Message-ID"] for mail in server.received}) == 1
    await session.refresh(job)
    assert (job.state, job.attempts) == (JobState.DONE, 2)


async def test_without_a_mail_server_nothing_is_sent(
    session: AsyncSession, database: Database, settings: Settings, user: User, other_user: User
) -> None:
    notification = await notify(session, other_user, user)

    await NotificationMailer(database, settings, NoMailer()).send(notification.id)


@pytest.mark.committed
@pytest.mark.usefixtures("running_system", "running_worker")
async def test_an_assignment_reaches_the_mailbox(
    client_as: ClientAs, session: AsyncSession, mail_server: MailServer, user: User, other_user: User
) -> None:
    """From the request over the event, its job, the notification and its own job, in a real worker's hands."""
    task = await create_task(session, owner=user)
    owner = await client_as(user)

    await owner.post(f"/tasks/{task.id}/assign", json={"user_id": str(other_user.id)})

    async def is_done() -> bool:
        await session.commit()
        done = select(Job.id).where(Job.name == JobName.SEND_MAIL, Job.state == JobState.DONE)
        return await session.scalar(done) is not None

    await wait_until_async(is_done, what="the mail to be sent")
    [received] = [mail for mail in mail_server.received if mail.recipients == [other_user.email]]
    [notification] = await session.scalars(select(Notification))
    assert received.message["Message-ID"] == f"<notification.{notification.id}@example.org>"


@pytest.mark.committed
async def test_a_server_that_takes_mail_and_never_says_so_is_given_it_twice_at_most(
    session: AsyncSession, database: Database, user: User, other_user: User
) -> None:
    notification = await notify(session, other_user, user)
    job = Job(name=JobName.SEND_MAIL, arguments={}, state=JobState.SENT)
    session.add(job)
    await session.commit()

    with MailServer(answers={"DATA": HANG_UP}) as server:
        mailer = mailer_for(server, database)
        for _ in range(4):
            with suppress(OutcomeUnknown):
                await perform_outside(database, job.id, lambda: mailer.send(notification.id))

    assert len(server.received) == 2
    await session.refresh(job)
    assert (job.state, job.unknown_outcomes) == (JobState.DEAD, 2)


@pytest.mark.committed
async def test_a_worker_that_is_killed_in_the_middle_of_a_mail_loses_none(
    hive_environment: dict[str, str], session: AsyncSession, database: Database, user: User, other_user: User
) -> None:
    notifications = [await notify(session, person, user) for person in (other_user, await create_user(session))]
    async with database.unit_of_work() as transaction:
        jobs = [ask_for_job(transaction, JobName.SEND_MAIL, notification_id=str(each.id)) for each in notifications]

    async def are_done() -> bool:
        await session.commit()
        states = await session.scalars(select(Job.state).where(Job.id.in_([job.id for job in jobs])))
        return set(states) == {JobState.DONE}

    with MailServer(answers={"DATA": SILENCE}) as server:
        environment = hive_environment | {"SMTP_URL": f"smtp://127.0.0.1:{server.port}"}
        with (
            HiveProcess(["-m", "app.cli", "relay"], environment),
            HiveProcess(["-m", "app.cli", "worker", "--queue", "outside"], environment) as worker,
        ):
            await asyncio.to_thread(wait_until, lambda: bool(server.received), what="a mail that is being sent")
            worker.kill()
            server.answers.clear()
            # What the dead worker held, and what it had from the queue, would be sent again after minutes.
            await session.execute(update(Job).where(Job.state == JobState.SENT).values(PAST))
            await session.commit()
            worker.start()
            await wait_until_async(are_done, what="both mails to be sent")

    came = Counter(str(mail.message["Message-ID"]) for mail in server.received)
    assert set(came) == {f"<notification.{each.id}@example.org>" for each in notifications}
    # The server had the one already when the worker was killed, and gets it again under the same name.
    assert sorted(came.values()) == [1, 2]
