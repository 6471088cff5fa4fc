"""What one call can set off is done in pieces, each a short transaction, and none is lost when one is cut off."""

import httpx2
import pytest
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.events import outbox
from app.models import (
    Event,
    EventType,
    Job,
    JobName,
    JobState,
    Notification,
    Task,
    TaskStatus,
    User,
    UserTaskAssociation,
)
from app.services.giving_back import PIECE
from app.services.notification_service import READ_AT_ONCE
from tests.builders.agents import create_agent
from tests.builders.tasks import create_held_tasks, create_task
from tests.conftest import ClientAs
from tests.utils.jobs import WorkerHere
from tests.utils.test_utils import wait_until_async

MANY = 2 * PIECE + 200

MANY_UNREAD = text(
    "INSERT INTO notifications (id, user_id, kind, event_id)"
    " SELECT gen_random_uuid(), :user_id, 'assigned', gen_random_uuid() FROM generate_series(1, :count)"
)


async def number_of(session: AsyncSession, kind: EventType) -> int:
    await session.commit()
    return await session.scalar(select(func.count()).select_from(Event).where(Event.type == kind)) or 0


async def held_by(session: AsyncSession, *users: User) -> int:
    await session.commit()
    held = select(func.count()).select_from(Task).where(Task.assignee_id.in_([user.id for user in users]))
    return await session.scalar(held) or 0


async def test_an_account_that_holds_much_ends_at_once_and_gives_it_back_in_pieces(
    signed_in: httpx2.AsyncClient, session: AsyncSession, worker_here: WorkerHere, user: User, other_user: User
) -> None:
    agent = await create_agent(session, owner=user)
    await create_held_tasks(session, MANY - 1, owner=other_user, holder=user)
    await create_held_tasks(session, 1, owner=other_user, holder=agent)

    assert (await signed_in.delete("/users/me")).status_code == 200

    assert (await signed_in.get("/tasks")).status_code == 401
    told = [await number_of(session, EventType.TASK_UNASSIGNED)]
    while await worker_here.do_next(session, JobName.GIVE_BACK_TASKS):
        told.append(await number_of(session, EventType.TASK_UNASSIGNED))
    assert told == [PIECE, 2 * PIECE, MANY]
    assert await held_by(session, user, agent) == 0
    tasks = (await session.execute(select(Task.status, Task.version).distinct())).all()
    assert tasks == [(TaskStatus.AVAILABLE, 2)]
    unfinished = select(func.count()).select_from(UserTaskAssociation).where(UserTaskAssociation.released_at.is_(None))
    assert await session.scalar(unfinished) == 0
    actors = await session.scalars(select(Event.actor_id).where(Event.type == EventType.TASK_UNASSIGNED).distinct())
    assert actors.all() == [user.id]


async def test_what_is_cut_off_in_the_middle_goes_on_and_is_not_doubled(
    signed_in_admin: httpx2.AsyncClient,
    session: AsyncSession,
    worker_here: WorkerHere,
    user: User,
    other_user: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await create_held_tasks(session, MANY, owner=other_user, holder=user)
    assert (await signed_in_admin.post(f"/admin/users/{user.id}/deactivate")).status_code == 200
    [job] = await worker_here.unfinished(session, JobName.GIVE_BACK_TASKS)

    with monkeypatch.context() as broken:
        broken.setattr(outbox, "record_each", _break)
        with pytest.raises(RuntimeError):
            await worker_here.do(job)
    assert await held_by(session, user) == MANY - PIECE
    while await worker_here.do_next(session, JobName.GIVE_BACK_TASKS):
        await worker_here.do(job)

    assert await held_by(session, user) == 0
    assert await number_of(session, EventType.TASK_UNASSIGNED) == MANY
    states = await session.scalars(select(Job.state).where(Job.name == JobName.GIVE_BACK_TASKS))
    assert set(states) == {JobState.DONE}


async def _break(*_: object, **__: object) -> None:
    raise RuntimeError("the worker is gone")


@pytest.mark.committed
async def test_what_an_account_takes_after_it_was_let_in_again_is_not_given_back(
    signed_in_admin: httpx2.AsyncClient,
    client_as: ClientAs,
    session: AsyncSession,
    worker_here: WorkerHere,
    user: User,
    other_user: User,
) -> None:
    await create_held_tasks(session, PIECE + 1, owner=other_user, holder=user)
    free = await create_task(session, owner=other_user)
    for action in ("deactivate", "reactivate"):
        assert (await signed_in_admin.post(f"/admin/users/{user.id}/{action}")).status_code == 200
    owner = await client_as(other_user)

    assert (await owner.post(f"/tasks/{free.id}/assign", json={"user_id": str(user.id)})).status_code == 200
    while await worker_here.do_next(session, JobName.GIVE_BACK_TASKS):
        pass

    assert (await session.scalars(select(Task.id).where(Task.assignee_id == user.id))).all() == [free.id]


@pytest.mark.committed
@pytest.mark.usefixtures("running_system", "running_worker")
async def test_a_real_worker_gives_all_of_it_back(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, other_user: User
) -> None:
    await create_held_tasks(session, PIECE + 100, owner=other_user, holder=user)

    assert (await signed_in.delete("/users/me")).status_code == 200

    async def is_all_free() -> bool:
        return await held_by(session, user) == 0

    await wait_until_async(is_all_free, what="the tasks of an account that has ended")
    assert await number_of(session, EventType.TASK_UNASSIGNED) == PIECE + 100


async def test_many_notifications_are_marked_as_read_in_pieces(
    signed_in: httpx2.AsyncClient, session: AsyncSession, worker_here: WorkerHere, user: User, other_user: User
) -> None:
    count = 2 * READ_AT_ONCE + 1
    for each in (user, other_user):
        await session.execute(MANY_UNREAD, {"user_id": each.id, "count": count})
    await session.commit()

    answer = await signed_in.post("/notifications/read")

    assert answer.json() == {"marked": count}
    assert await unread_of(session, user) == count - READ_AT_ONCE
    while await worker_here.do_next(session, JobName.MARK_NOTIFICATIONS_READ):
        pass
    assert (await unread_of(session, user), await unread_of(session, other_user)) == (0, count)
    told = await session.scalars(select(Event.data).where(Event.type == EventType.NOTIFICATION_READ))
    ids = [data["notification_ids"] for data in told]
    assert [len(piece) for piece in ids] == [READ_AT_ONCE, READ_AT_ONCE, 1]
    assert len({each for piece in ids for each in piece}) == count


@pytest.mark.committed
async def test_what_comes_while_others_are_marked_stays_unread(
    signed_in: httpx2.AsyncClient, session: AsyncSession, worker_here: WorkerHere, user: User
) -> None:
    await session.execute(MANY_UNREAD, {"user_id": user.id, "count": READ_AT_ONCE + 1})
    await session.commit()
    await signed_in.post("/notifications/read")
    await session.execute(MANY_UNREAD, {"user_id": user.id, "count": 1})

    while await worker_here.do_next(session, JobName.MARK_NOTIFICATIONS_READ):
        pass

    assert await unread_of(session, user) == 1


async def unread_of(session: AsyncSession, user: User) -> int:
    await session.commit()
    unread = select(func.count()).where(Notification.user_id == user.id, Notification.read_at.is_(None))
    return await session.scalar(unread) or 0
