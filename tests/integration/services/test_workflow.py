"""The steps of a task and who may do what, on the real database: each rule in Python and in SQL alike."""

from collections.abc import Sequence
from itertools import product
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.permissions import (
    Actor,
    Permission,
    PermissionDenied,
    TaskNotFound,
    access_task,
    permissions_on,
    select_visible_events,
    select_visible_tasks,
)
from app.models import HELD_STATUSES, Event, TaskStatus, User
from app.services import TaskService
from app.services.workflow import InvalidTransition
from tests.builders.tasks import create_task
from tests.builders.users import create_user
from tests.utils.serving import Serving
from tests.utils.task_rules import ALLOWED, AVAILABLE, COMPLETED, DRAFT, IN_PROGRESS, KINDS, MATRIX, REFUSED, VIEW
from tests.utils.test_utils import events_of


@pytest.mark.parametrize(("current", "wanted"), sorted(ALLOWED))
async def test_a_step_changes_the_row_and_tells_of_it(
    serving: Serving, session: AsyncSession, user: User, other_user: User, current: TaskStatus, wanted: TaskStatus
) -> None:
    task = await create_task(session, owner=user, assignee=other_user, status=current)

    changed = await serving(TaskService).change_status(Actor.of(user), task.id, wanted)

    holder = {
        (AVAILABLE, IN_PROGRESS): user.id,
        (IN_PROGRESS, COMPLETED): other_user.id,
        (COMPLETED, IN_PROGRESS): other_user.id,
    }.get((current, wanted))
    await session.refresh(task)
    assert (task.status, task.version, task.assignee_id) == (changed.status, changed.version, changed.assignee_id)
    assert task.completed_at == changed.completed_at
    assert (changed.status, changed.version, changed.assignee_id) == (wanted, 2, holder)
    assert (changed.completed_at is not None) == (wanted is COMPLETED)
    [event] = await events_of(session, task)
    assert (event.type, event.task_version, event.actor_id) == ("task.status_changed", 2, user.id)
    assert event.audience is None
    completed_at = changed.completed_at.isoformat().replace("+00:00", "Z") if changed.completed_at else None
    assert event.data == {
        "old_status": current,
        "new_status": wanted,
        "assignee_id": str(holder) if holder else None,
        "previous_assignee_id": str(other_user.id) if current in HELD_STATUSES else None,
        "completed_at": completed_at,
    }


@pytest.mark.parametrize(("current", "wanted"), REFUSED)
async def test_a_step_that_is_refused_changes_nothing(
    serving: Serving, session: AsyncSession, user: User, current: TaskStatus, wanted: TaskStatus
) -> None:
    task = await create_task(session, owner=user, status=current)

    with pytest.raises(InvalidTransition):
        await serving(TaskService).change_status(Actor.of(user), task.id, wanted)

    await session.refresh(task)
    assert (task.status, task.version) == (current, 1)
    assert await session.scalar(select(func.count()).select_from(Event)) == 0


@pytest.mark.parametrize("permission", Permission)
@pytest.mark.parametrize("status", TaskStatus)
@pytest.mark.parametrize("kind", KINDS)
async def test_access_gives_the_task_to_whom_the_table_says(
    serving: Serving, session: AsyncSession, kind: str, status: TaskStatus, permission: Permission
) -> None:
    people = {name: await create_user(session, is_admin=name == "admin") for name in KINDS}
    task = await create_task(session, owner=people["owner"], assignee=people["assignee"], status=status)
    # Nobody is the assignee of a task that has none.
    granted = MATRIX.get((kind, status), MATRIX["stranger", status])
    actor = Actor.of(people[kind])

    if permission in granted:
        assert (await serving.do(access_task, actor, task.id, permission)).id == task.id
    else:
        with pytest.raises(PermissionDenied if granted else TaskNotFound):
            await serving.do(access_task, actor, task.id, permission)


async def test_a_task_that_is_not_there_and_one_that_is_hidden_look_the_same(
    serving: Serving, session: AsyncSession, user: User
) -> None:
    hidden = await create_task(session, owner=await create_user(session), status=DRAFT)

    answers = []
    for task_id in (hidden.id, uuid4()):
        with pytest.raises(TaskNotFound) as refused:
            await serving.do(access_task, Actor.of(user), task_id, VIEW)
        answers.append((refused.value.status_code, refused.value.error_code, refused.value.detail, refused.value.extra))

    assert answers[0] == answers[1]


@pytest.fixture
async def three_people(session: AsyncSession) -> Sequence[User]:
    return [await create_user(session), await create_user(session), await create_user(session, is_admin=True)]


async def test_the_tasks_of_a_list_are_those_that_one_may_view(
    session: AsyncSession, three_people: Sequence[User]
) -> None:
    """Every status with every owner and holder, asked for by everybody: SQL and Python agree."""
    tasks = [
        await create_task(session, owner=owner, assignee=assignee, status=status)
        for status, owner, assignee in product(TaskStatus, three_people, three_people)
    ]

    for actor in (*map(Actor.of, three_people), Actor(uuid4()), Actor(uuid4(), is_admin=True)):
        in_sql = {task.id for task in await session.scalars(select_visible_tasks(actor.visibility))}
        in_python = {task.id for task in tasks if VIEW in permissions_on(actor, task)}
        assert in_sql == in_python
        assert in_sql == {task.id for task in tasks if permissions_on(actor, task)}
        assert in_sql == {task.id for task in tasks if actor.visibility.sees(task)}


async def test_the_events_of_a_list_are_those_that_one_may_read(
    session: AsyncSession, three_people: Sequence[User]
) -> None:
    ids = [person.id for person in three_people]
    audiences: list[list[UUID] | None] = [None, [], ids[:1], ids[1:2], ids[:2], ids]
    events = [
        Event(type=kind, actor_id=ids[0], audience=audience, data={})
        for audience in audiences
        for kind in ("chat.message", "notification.created")
    ]
    session.add_all(events)
    await session.commit()

    for actor in (*map(Actor.of, three_people), Actor(uuid4()), Actor(uuid4(), is_admin=True)):
        in_sql = {event.id for event in await session.scalars(select_visible_events(actor.visibility))}
        assert in_sql == {event.id for event in events if actor.visibility.reads(event.type, event.audience)}
