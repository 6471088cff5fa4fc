"""The table of transitions, and who may do what: each rule in Python and in SQL alike."""

from collections.abc import Sequence
from itertools import product
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.permissions import (
    Actor,
    Audience,
    Permission,
    PermissionDenied,
    TaskNotFound,
    Visibility,
    access_task,
    audience_of,
    permissions_on,
    select_visible_events,
    select_visible_tasks,
)
from app.models import HELD_STATUSES, PERSONAL_TYPES, Event, Task, TaskStatus, User
from app.services import TaskService
from app.services.workflow import TRANSITIONS, InvalidTransition, require_transition
from tests.builders.tasks import create_task
from tests.builders.users import create_user
from tests.utils.serving import Serving
from tests.utils.test_utils import events_of

DRAFT, AVAILABLE, IN_PROGRESS, COMPLETED = TaskStatus
# As the contract has it, written down a second time.
ALLOWED = {
    (DRAFT, AVAILABLE),
    (AVAILABLE, IN_PROGRESS),
    (IN_PROGRESS, COMPLETED),
    (IN_PROGRESS, AVAILABLE),
    (COMPLETED, IN_PROGRESS),
    (AVAILABLE, DRAFT),
}
PAIRS = list(product(TaskStatus, TaskStatus))


def test_the_table_is_the_contracts() -> None:
    assert {(current, wanted) for current in TRANSITIONS for wanted in TRANSITIONS[current]} == ALLOWED


def test_the_table_has_every_state() -> None:
    assert set(TRANSITIONS) == set(TaskStatus)


@pytest.mark.parametrize(("current", "wanted"), [pair for pair in PAIRS if pair not in ALLOWED])
def test_a_step_that_the_table_lacks_is_refused_naming_those_it_has(current: TaskStatus, wanted: TaskStatus) -> None:
    with pytest.raises(InvalidTransition) as refused:
        require_transition(current, wanted)

    error = refused.value
    assert (error.status_code, error.error_code) == (409, "invalid_transition")
    assert error.extra == {"current": current, "allowed": TRANSITIONS[current]}
    assert current in error.detail
    assert wanted in error.detail


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


@pytest.mark.parametrize(("current", "wanted"), [pair for pair in PAIRS if pair not in ALLOWED])
async def test_a_step_that_is_refused_changes_nothing(
    serving: Serving, session: AsyncSession, user: User, current: TaskStatus, wanted: TaskStatus
) -> None:
    task = await create_task(session, owner=user, status=current)

    with pytest.raises(InvalidTransition):
        await serving(TaskService).change_status(Actor.of(user), task.id, wanted)

    await session.refresh(task)
    assert (task.status, task.version) == (current, 1)
    assert await session.scalar(select(func.count()).select_from(Event)) == 0


VIEW, CLAIM = Permission.TASK_VIEW, Permission.TASK_CLAIM
UNASSIGN, CHANGE_STATUS = Permission.TASK_UNASSIGN, Permission.TASK_CHANGE_STATUS
EVERYTHING = set(Permission)
MATRIX = {
    ("owner", DRAFT): EVERYTHING,
    ("owner", AVAILABLE): EVERYTHING,
    ("owner", IN_PROGRESS): EVERYTHING,
    ("owner", COMPLETED): EVERYTHING,
    ("admin", DRAFT): EVERYTHING,
    ("admin", AVAILABLE): EVERYTHING,
    ("admin", IN_PROGRESS): EVERYTHING,
    ("admin", COMPLETED): EVERYTHING,
    ("assignee", IN_PROGRESS): {VIEW, CLAIM, UNASSIGN, CHANGE_STATUS},
    ("assignee", COMPLETED): {VIEW, CLAIM, UNASSIGN, CHANGE_STATUS},
    ("stranger", DRAFT): set(),
    ("stranger", AVAILABLE): {VIEW, CLAIM},
    ("stranger", IN_PROGRESS): {VIEW, CLAIM},
    ("stranger", COMPLETED): {VIEW, CLAIM},
}
PEOPLE = {kind: uuid4() for kind in ("owner", "assignee", "admin", "stranger")}


def task_of(status: TaskStatus) -> Task:
    assignee = PEOPLE["assignee"] if status in HELD_STATUSES else None
    return Task(id=uuid4(), title="Orchids", status=status, owner_id=PEOPLE["owner"], assignee_id=assignee)


def actor_of(kind: str) -> Actor:
    return Actor(PEOPLE[kind], is_admin=kind == "admin")


@pytest.mark.parametrize(("kind", "status"), MATRIX)
def test_what_each_kind_of_person_may_do(kind: str, status: TaskStatus) -> None:
    assert permissions_on(actor_of(kind), task_of(status)) == MATRIX[kind, status]


def test_who_owns_and_holds_a_task_has_the_rights_of_its_owner() -> None:
    task = task_of(IN_PROGRESS)
    task.assignee_id = task.owner_id

    assert permissions_on(actor_of("owner"), task) == EVERYTHING


@pytest.mark.parametrize("permission", Permission)
@pytest.mark.parametrize("status", TaskStatus)
@pytest.mark.parametrize("kind", ["owner", "assignee", "admin", "stranger"])
async def test_access_gives_the_task_to_whom_the_table_says(
    serving: Serving, session: AsyncSession, kind: str, status: TaskStatus, permission: Permission
) -> None:
    people = {name: await create_user(session, is_admin=name == "admin") for name in PEOPLE}
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


@pytest.mark.parametrize(
    ("status", "is_private"), [(DRAFT, True), (AVAILABLE, False), (IN_PROGRESS, False), (COMPLETED, False)]
)
def test_who_may_read_of_a_task_may_view_it(status: TaskStatus, is_private: bool) -> None:
    task = task_of(status)
    audience: Audience = audience_of(task)

    assert audience == ([task.owner_id] if is_private else None)
    for kind in PEOPLE:
        actor = actor_of(kind)
        assert actor.visibility.reads("task.updated", audience) == (VIEW in permissions_on(actor, task))


def test_what_is_personal_is_not_for_admins_either() -> None:
    person, admin = uuid4(), Actor(uuid4(), is_admin=True)

    for kind in PERSONAL_TYPES:
        assert Visibility(person).reads(kind, [person])
        assert not admin.visibility.reads(kind, [person])
    assert admin.visibility.reads("task.updated", [person])
