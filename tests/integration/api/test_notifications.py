"""Notifications: written once by their job, read by their person alone, told live, marked as read."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import httpx2
import pytest
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.permissions import Actor
from app.db import purging
from app.models import Event, EventType, Job, JobName, Notification, NotificationKind, TaskStatus, User
from app.services import ChatService, NotificationService, Notifier, notification_service
from tests.builders.tasks import create_task
from tests.builders.users import create_user
from tests.utils.serving import Serving
from tests.utils.test_utils import problem

IN_A_DAY = timedelta(hours=23, minutes=59)
IN_AN_HOUR = timedelta(minutes=59)


async def do_notify_jobs(serving: Serving, session: AsyncSession, *, sends_mail: bool = False) -> int:
    """Do what a worker would with the jobs that were asked for; how many there were."""
    await session.commit()
    jobs = (await session.scalars(select(Job).where(Job.name == JobName.NOTIFY))).all()
    notifier = serving(lambda transaction: Notifier(transaction, sends_mail=sends_mail))
    for job in jobs:
        await notifier.tell_of(UUID(job.arguments["event_id"]))
    return len(jobs)


async def told(session: AsyncSession) -> list[tuple[UUID, NotificationKind]]:
    rows = await session.scalars(select(Notification).order_by(Notification.id))
    return [(row.user_id, row.kind) for row in rows]


async def personal_events(session: AsyncSession) -> list[Event]:
    types = (EventType.NOTIFICATION_CREATED, EventType.NOTIFICATION_READ)
    return list(await session.scalars(select(Event).where(Event.type.in_(types)).order_by(Event.position)))


async def test_an_assignee_is_notified_once_and_reads_it_alone(
    signed_in: httpx2.AsyncClient,
    signed_in_other: httpx2.AsyncClient,
    signed_in_admin: httpx2.AsyncClient,
    serving: Serving,
    session: AsyncSession,
    user: User,
    other_user: User,
) -> None:
    task = await create_task(session, owner=user)
    await signed_in.post(f"/tasks/{task.id}/assign", json={"user_id": str(other_user.id)})

    assert await do_notify_jobs(serving, session) == 1
    await do_notify_jobs(serving, session)

    [row] = await session.scalars(select(Notification))
    assert (row.user_id, row.kind, row.actor_id) == (other_user.id, NotificationKind.ASSIGNED, user.id)
    [event] = await personal_events(session)
    assert (event.audience, event.actor_id, event.task_id) == ([other_user.id], user.id, None)
    [seen] = (await signed_in_other.get("/notifications")).json()
    assert (seen["kind"], seen["task_id"], seen["task_title"]) == ("assigned", str(task.id), "Water the orchids")
    assert event.data == {name: seen[name] for name in event.data if name != "notification_id"} | {
        "notification_id": seen["id"]
    }
    for somebody_else in (signed_in, signed_in_admin):
        assert (await somebody_else.get("/notifications")).json() == []
        answer = await somebody_else.post(f"/notifications/{seen['id']}/read")
        assert problem(answer, 404)["code"] == "notification_not_found"


async def test_a_new_owner_is_notified(
    signed_in: httpx2.AsyncClient,
    signed_in_other: httpx2.AsyncClient,
    serving: Serving,
    session: AsyncSession,
    user: User,
    other_user: User,
) -> None:
    """Of a draft as well, which they can see from then on."""
    task = await create_task(session, owner=user, status=TaskStatus.DRAFT)
    await signed_in.patch(f"/tasks/{task.id}", json={"owner_id": str(other_user.id)})

    assert await do_notify_jobs(serving, session) == 1

    assert await told(session) == [(other_user.id, NotificationKind.HANDED_OVER)]
    [seen] = (await signed_in_other.get("/notifications")).json()
    assert (seen["kind"], seen["task_id"], seen["actor_id"]) == ("handed_over", str(task.id), str(user.id))
    [event] = await personal_events(session)
    assert (event.audience, event.data["kind"]) == ([other_user.id], "handed_over")


async def test_marking_as_read_is_told_to_ones_other_devices(
    signed_in_other: httpx2.AsyncClient, session: AsyncSession, user: User, other_user: User
) -> None:
    rows = [
        Notification(user_id=other_user.id, kind=NotificationKind.MENTIONED, event_id=uuid4(), actor_id=user.id)
        for _ in range(3)
    ]
    session.add_all(rows)
    await session.commit()

    first = (await signed_in_other.post(f"/notifications/{rows[0].id}/read")).json()
    again = (await signed_in_other.post(f"/notifications/{rows[0].id}/read")).json()
    unread = (await signed_in_other.get("/notifications?unread=true")).json()
    rest = (await signed_in_other.post("/notifications/read")).json()
    none = (await signed_in_other.post("/notifications/read")).json()

    assert first["read_at"] is not None
    assert again == first
    assert {entry["id"] for entry in unread} == {str(rows[1].id), str(rows[2].id)}
    assert (rest, none) == ({"marked": 2}, {"marked": 0})
    events = await personal_events(session)
    assert [event.data["notification_ids"] for event in events] == [
        [str(rows[0].id)],
        sorted(str(row.id) for row in rows[1:]),
    ]
    assert all(event.audience == [other_user.id] for event in events)


async def test_notifications_come_in_pages(signed_in: httpx2.AsyncClient, session: AsyncSession, user: User) -> None:
    for _ in range(5):
        session.add(Notification(user_id=user.id, kind=NotificationKind.MENTIONED, event_id=uuid4()))
        await session.commit()

    first = await signed_in.get("/notifications?limit=3")
    second = await signed_in.get(first.links["next"]["url"].removeprefix("/api/v1"))

    ids = [entry["id"] for entry in first.json() + second.json()]
    assert len(set(ids)) == 5
    assert "next" not in second.links


async def test_a_mention_is_told_once_a_task_to_whoever_may_see_it(
    signed_in: httpx2.AsyncClient, serving: Serving, session: AsyncSession, user: User, other_user: User
) -> None:
    gone = await create_user(session, is_active=False)
    text = f"Ask <@{other_user.id}>, <@{gone.id}>, <@{user.id}> or <@{uuid4()}>"
    created = (await signed_in.post("/tasks", json={"title": "Roses", "description": text})).json()
    assert await do_notify_jobs(serving, session) == 0

    await signed_in.put(f"/tasks/{created['id']}/status", json={"status": "available"})
    await do_notify_jobs(serving, session)
    await signed_in.patch(f"/tasks/{created['id']}", json={"description": text + "!"})
    assert await do_notify_jobs(serving, session) == 2

    assert await told(session) == [(other_user.id, NotificationKind.MENTIONED)]


async def test_who_may_not_see_the_task_any_more_is_not_told_its_title(
    signed_in: httpx2.AsyncClient, serving: Serving, session: AsyncSession, other_user: User
) -> None:
    body = {"title": "Roses", "description": f"<@{other_user.id}>", "status": "available"}
    created = (await signed_in.post("/tasks", json=body)).json()
    await signed_in.put(f"/tasks/{created['id']}/status", json={"status": "draft"})

    assert await do_notify_jobs(serving, session) == 1

    assert await told(session) == []


async def test_who_is_named_in_the_chat_is_told(
    serving: Serving, session: AsyncSession, user: User, other_user: User
) -> None:
    await serving(ChatService).say(Actor.of(user), f"Tea, <@{other_user.id}>?")
    await do_notify_jobs(serving, session)

    [row] = await session.scalars(select(Notification))
    assert (row.user_id, row.kind, row.task_id) == (other_user.id, NotificationKind.MENTIONED, None)


async def test_the_chat_tells_once_an_hour_of_mentions_by_the_same_sender(
    serving: Serving, session: AsyncSession, user: User, other_user: User
) -> None:
    third = await create_user(session)
    for sender, named in ((user, other_user), (user, other_user), (third, other_user), (user, third)):
        await serving(ChatService).say(Actor.of(sender), f"<@{named.id}>!")
    await do_notify_jobs(serving, session)
    expected = {(user.id, other_user.id), (third.id, other_user.id), (user.id, third.id)}

    rows = list(await session.scalars(select(Notification)))
    assert len(rows) == 3
    assert {(row.actor_id, row.user_id) for row in rows} == expected

    await session.execute(update(Notification).values(created_at=func.now() - timedelta(hours=1)))
    await serving(ChatService).say(Actor.of(user), f"<@{other_user.id}>?")
    await do_notify_jobs(serving, session)
    assert len(list(await session.scalars(select(Notification)))) == 4


async def test_a_task_that_is_gone_is_no_reason_to_notify(
    signed_in: httpx2.AsyncClient, serving: Serving, session: AsyncSession, user: User, other_user: User
) -> None:
    task = await create_task(session, owner=user)
    await signed_in.post(f"/tasks/{task.id}/assign", json={"user_id": str(other_user.id)})
    await signed_in.delete(f"/tasks/{task.id}")

    assert await do_notify_jobs(serving, session) == 1

    assert await told(session) == []


async def test_mail_is_asked_for_once_and_only_of_those_who_want_it(
    signed_in: httpx2.AsyncClient, serving: Serving, session: AsyncSession, user: User, other_user: User
) -> None:
    quiet = await create_user(session, mail_notifications=False)
    text = f"<@{other_user.id}> <@{quiet.id}>"
    await signed_in.post("/tasks", json={"title": "Roses", "description": text, "status": "available"})

    await do_notify_jobs(serving, session, sends_mail=True)
    await do_notify_jobs(serving, session, sends_mail=True)

    assert len(await told(session)) == 2
    [job] = await session.scalars(select(Job).where(Job.name == JobName.SEND_MAIL))
    row = await session.get_one(Notification, UUID(job.arguments["notification_id"]))
    assert row.user_id == other_user.id


@pytest.mark.parametrize(
    ("left", "kind"),
    [(IN_A_DAY, NotificationKind.DUE_IN_A_DAY), (IN_AN_HOUR, NotificationKind.DUE_IN_AN_HOUR)],
)
async def test_owner_and_holder_are_reminded_once_of_each_due_time(
    serving: Serving, session: AsyncSession, user: User, other_user: User, left: timedelta, kind: NotificationKind
) -> None:
    due_at = datetime.now(UTC) + left
    task = await create_task(session, owner=user, assignee=other_user, status=TaskStatus.IN_PROGRESS, due_at=due_at)

    for _ in range(2):
        assert not await serving(Notifier).remind_of_due_tasks()

    assert sorted(await told(session)) == sorted([(user.id, kind), (other_user.id, kind)])
    events = await personal_events(session)
    assert {tuple(event.audience or ()) for event in events} == {(user.id,), (other_user.id,)}
    assert {(event.actor_type, event.data["kind"]) for event in events} == {("system", kind.value)}
    task.due_at = due_at - timedelta(minutes=1)
    await session.commit()
    await serving(Notifier).remind_of_due_tasks()
    assert len(await told(session)) == 4


@pytest.mark.parametrize(
    ("left", "status"),
    [
        (timedelta(days=1, minutes=1), TaskStatus.AVAILABLE),
        (timedelta(hours=5), TaskStatus.AVAILABLE),
        (timedelta(minutes=-1), TaskStatus.AVAILABLE),
        (IN_AN_HOUR, TaskStatus.COMPLETED),
        (IN_AN_HOUR, TaskStatus.DRAFT),
    ],
)
async def test_nobody_is_reminded_too_early_too_late_or_in_vain(
    serving: Serving, session: AsyncSession, user: User, left: timedelta, status: TaskStatus
) -> None:
    await create_task(session, owner=user, status=status, due_at=datetime.now(UTC) + left)

    await serving(Notifier).remind_of_due_tasks()

    assert await told(session) == []


async def test_who_has_left_is_not_reminded(serving: Serving, session: AsyncSession) -> None:
    gone = await create_user(session, is_active=False)
    await create_task(session, owner=gone, due_at=datetime.now(UTC) + IN_AN_HOUR)

    await serving(Notifier).remind_of_due_tasks()

    assert await told(session) == []


async def test_what_was_read_long_ago_is_forgotten_and_what_is_unread_stays(
    serving: Serving, session: AsyncSession, user: User
) -> None:
    old, young, unread = (
        Notification(user_id=user.id, kind=NotificationKind.MENTIONED, event_id=uuid4()) for _ in range(3)
    )
    session.add_all([old, young, unread])
    await session.flush()
    ages = {old.id: timedelta(days=31), young.id: timedelta(days=29)}
    for row_id, age in ages.items():
        await session.execute(update(Notification).where(Notification.id == row_id).values(read_at=func.now() - age))

    await serving(NotificationService).purge(keep=timedelta(days=30))

    assert set(await session.scalars(select(Notification.id))) == {young.id, unread.id}


async def test_old_unread_ones_and_those_beyond_the_newest_are_forgotten(
    serving: Serving, session: AsyncSession, user: User, other_user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notification_service, "MOST_KEPT", 3)
    for days, person in ((200, other_user), (170, other_user), *((day, user) for day in range(5))):
        created_at = datetime.now(UTC) - timedelta(days=days)
        kind = NotificationKind.ASSIGNED
        session.add(Notification(user_id=person.id, kind=kind, event_id=uuid4(), created_at=created_at))
    await session.commit()

    assert not await serving(NotificationService).purge(keep=timedelta(days=30))

    left = await session.execute(select(Notification.user_id, func.count()).group_by(Notification.user_id))
    assert dict(left.all()) == {user.id: 3, other_user.id: 1}


async def test_purging_goes_in_pieces_and_says_that_there_is_more(
    serving: Serving, session: AsyncSession, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purging, "AT_ONCE", 2)
    long_ago = datetime.now(UTC) - timedelta(days=60)
    for _ in range(3):
        session.add(Notification(user_id=user.id, kind=NotificationKind.ASSIGNED, event_id=uuid4(), read_at=long_ago))
    await session.commit()
    service = serving(NotificationService)

    assert [await service.purge(keep=timedelta(days=30)) for _ in range(2)] == [True, False]
    assert await session.scalar(select(func.count()).select_from(Notification)) == 0
