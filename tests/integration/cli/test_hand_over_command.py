"""`hive user hand-over`: all tasks of an account go to another owner, once, however often it is asked for."""

import re
from uuid import uuid4

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.cli.accounts import hand_over_tasks
from app.core.permissions import SYSTEM
from app.database import Database
from app.models import Event, EventType, Job, Notification, NotificationKind, Task, TaskStatus, User
from app.services import hand_over
from tests.builders.agents import create_agent
from tests.builders.tasks import create_task
from tests.builders.users import create_user
from tests.utils.processes import run_program
from tests.utils.test_utils import events_of

Kind = NotificationKind
pytestmark = pytest.mark.committed


async def owned_by(session: AsyncSession, user: User) -> int:
    await session.commit()
    return await session.scalar(select(func.count()).select_from(Task).where(Task.owner_id == user.id)) or 0


@pytest.mark.parametrize("is_active", [True, False])
async def test_all_tasks_go_to_the_new_owner_with_an_event_each(
    session: AsyncSession, database_url: str, user: User, *, is_active: bool
) -> None:
    old = await create_user(session, is_active=is_active)
    tasks = [await create_task(session, owner=old, status=status) for status in TaskStatus]
    others = await create_task(session, owner=await create_user(session))

    count = await hand_over_tasks(database_url, old=old.email.upper(), new=str(user.id), with_agents=False)

    assert count == len(TaskStatus)
    await session.commit()
    for task in tasks:
        await session.refresh(task)
        assert (task.owner_id, task.version) == (user.id, 2)
        [event] = await events_of(session, task)
        assert (event.type, event.actor_id, event.actor_type) == ("task.updated", SYSTEM.id, "system")
        assert event.data == {"changed": {"owner_id": str(user.id)}}
        assert event.audience == ([old.id, user.id] if task.status is TaskStatus.DRAFT else None)
    await session.refresh(others)
    assert others.version == 1


async def test_an_interrupted_hand_over_goes_on_and_doubles_nothing(
    session: AsyncSession, database: Database, database_url: str, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hand_over, "BATCH", 2)
    old = await create_user(session)
    for _ in range(5):
        await create_task(session, owner=old)
    async with database.unit_of_work() as work:
        assert await hand_over.hand_over_batch(work, owners=[old.id], new_owner=user.id) == 2

    counts = [await hand_over_tasks(database_url, old=old.email, new=user.email, with_agents=False) for _ in range(2)]

    assert counts == [3, 0]
    # Once for all, and not for the run that found nothing left.
    [told] = await session.scalars(select(Notification))
    assert (told.user_id, told.kind, told.task_id, told.actor_id) == (user.id, Kind.HANDED_OVER, None, SYSTEM.id)
    [event] = await session.scalars(select(Event).where(Event.type == EventType.NOTIFICATION_CREATED))
    assert (event.audience, event.data["kind"], event.data["task_id"]) == ([user.id], "handed_over", None)
    assert await session.scalar(select(func.count()).select_from(Job)) == 0
    assert (await owned_by(session, old), await owned_by(session, user)) == (0, 5)
    assert await session.scalar(select(func.count()).where(Event.type == EventType.TASK_UPDATED)) == 5


async def test_agents_keep_their_tasks_unless_they_are_named_too(
    session: AsyncSession, database_url: str, user: User
) -> None:
    old = await create_user(session)
    agent = await create_agent(session, owner=old)
    await create_task(session, owner=agent)
    await create_task(session, owner=old)

    assert await hand_over_tasks(database_url, old=old.email, new=user.email, with_agents=False) == 1
    assert await owned_by(session, agent) == 1
    assert await hand_over_tasks(database_url, old=old.email, new=user.email, with_agents=True) == 1
    assert await owned_by(session, user) == 2


async def test_an_account_is_found_by_any_spelling_of_its_address(
    session: AsyncSession, database_url: str, user: User
) -> None:
    old = await create_user(session, email="ada@xn--bcher-kva.example")
    await create_task(session, owner=old)
    await session.commit()

    assert await hand_over_tasks(database_url, old="ADA@Bücher.example", new=user.email, with_agents=False) == 1


async def test_what_can_not_be_handed_over_is_said_in_a_sentence(
    session: AsyncSession, database_url: str, user: User
) -> None:
    gone = await create_user(session, is_active=False)
    await create_task(session, owner=user)
    unknown = str(uuid4())

    for old, new, sentence in (
        (unknown, user.email, f"There is no account {unknown}."),
        (user.email, "nobody@example.org", "There is no account nobody@example.org."),
        ("nobody", user.email, "nobody is neither an e-mail address nor an id."),
        (user.email, str(user.id), "Both are the same account."),
        (user.email, gone.email, f"The account {gone.email} has ended, so it can't own tasks."),
    ):
        with pytest.raises(ValueError, match=re.escape(sentence)) as refused:
            await hand_over_tasks(database_url, old=old, new=new, with_agents=False)
        assert str(refused.value) == sentence
    assert await owned_by(session, user) == 1


async def test_the_command_prints_the_count_and_fails_with_a_sentence(
    session: AsyncSession, hive_environment: dict[str, str], user: User, other_user: User
) -> None:
    await create_task(session, owner=user)

    def run(*arguments: str) -> tuple[int, str, str]:
        done = run_program(["-m", "app.cli", "user", "hand-over", *arguments], hive_environment)
        return done.returncode, done.stdout, done.stderr

    assert run(user.email, other_user.email) == (
        0,
        f"Handed over 1 task from {user.email} to {other_user.email}.\n",
        "",
    )
    code, said, fault = run("nobody@example.org", other_user.email)
    assert (code, said, fault) == (1, "", "hive: There is no account nobody@example.org.\n")
