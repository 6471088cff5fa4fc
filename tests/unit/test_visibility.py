"""What one sees, as one value: what is kept by a part of it serves all who have that part in common."""

import ast
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

import app
from app.core.permissions import (
    Actor,
    Audience,
    Visibility,
    audience_of,
    is_within,
    select_visible_events,
    select_visible_tasks,
)
from app.database import Database
from app.db.statements import keep
from app.models import Event, EventType, TaskStatus, User
from tests.builders.tasks import create_task

ADA, GRACE, ROOT, LINUS = (UUID(int=number) for number in (1, 2, 3, 4))
PEOPLE = [Visibility(ADA), Visibility(GRACE), Visibility(ROOT, is_admin=True)]
APP = Path(app.__file__).parent
# That accounts are admins is their own concern; what an admin may do and see is for `permissions.py` to say.
ABOUT_ACCOUNTS = {
    "core/auth.py",
    "core/permissions.py",
    "services/account_emptying.py",
    "services/account_endings.py",
    "services/account_locks.py",
    "services/registration.py",
    "services/user_admin.py",
    "services/user_service.py",
    "services/whoami_service.py",
    # It's told of accounts that have been promoted or demoted.
    "websockets/connection_manager.py",
}


@pytest.fixture
def viewers(user: User, other_user: User, admin: User) -> Sequence[Actor]:
    return [Actor.of(user), Actor.of(other_user), Actor.of(admin), Actor(LINUS), Actor(LINUS, is_admin=True)]


async def test_kept_statement_finds_the_tasks_of_each_viewer(
    session: AsyncSession, database: Database, viewers: Sequence[Actor], user: User, other_user: User, admin: User
) -> None:
    tasks = [
        await create_task(session, owner=owner, status=status)
        for owner, status in product((user, other_user, admin), TaskStatus)
    ]
    statements = {key: keep(select_visible_tasks(key)) for key in {each.visibility.statement_key for each in viewers}}
    assert len(statements) < len(viewers)

    async with database.unit_of_work() as transaction:
        for visibility in (viewer.visibility for viewer in viewers):
            statement = statements[visibility.statement_key]
            found = await transaction.scalars(statement, visibility.statement_values)

            assert {task.id for task in found} == {task.id for task in tasks if visibility.sees(task)}


async def test_kept_statement_finds_the_events_of_each_viewer(
    session: AsyncSession, database: Database, viewers: Sequence[Actor]
) -> None:
    audiences = [None, [], *([viewer.id] for viewer in viewers)]
    kinds = (EventType.CHAT_MESSAGE, EventType.NOTIFICATION_CREATED)
    events = [Event(type=kind, actor_id=LINUS, audience=each, data={}) for kind, each in product(kinds, audiences)]
    session.add_all(events)
    await session.commit()
    statements = {key: keep(select_visible_events(key)) for key in {each.visibility.statement_key for each in viewers}}

    async with database.unit_of_work() as transaction:
        for visibility in (viewer.visibility for viewer in viewers):
            statement = statements[visibility.statement_key]
            found = await transaction.scalars(statement, visibility.statement_values)

            assert {event.id for event in found} == {e.id for e in events if visibility.reads(e.type, e.audience)}


@pytest.mark.parametrize("visibility", PEOPLE, ids=["ada", "grace", "root"])
@pytest.mark.parametrize("audience", [None, [], [LINUS]], ids=["everybody", "admins", "somebody else"])
@pytest.mark.parametrize("kind", EventType)
def test_group_reads_what_concerns_nobody_in_it(visibility: Visibility, audience: Audience, kind: EventType) -> None:
    assert visibility.reads(kind, audience) == visibility.group.reads(kind, audience)


def test_group_is_nobody_in_person() -> None:
    assert {each.group for each in PEOPLE} == {each.group.group for each in PEOPLE}
    for visibility in PEOPLE:
        assert visibility.reads(EventType.NOTIFICATION_CREATED, [visibility.user_id])
        assert not visibility.group.reads(EventType.NOTIFICATION_CREATED, [visibility.user_id])


@pytest.mark.parametrize(
    ("audience", "wider", "expected"),
    [
        (None, None, True),
        ([ADA], None, True),
        (None, [ADA], False),
        ([ADA], [ADA], True),
        ([ADA], [ADA, GRACE], True),
        ([ADA, GRACE], [ADA], False),
        ([ADA], [GRACE], False),
    ],
)
def test_audience_is_within_another(audience: Audience, wider: Audience, *, expected: bool) -> None:
    assert is_within(audience, wider) is expected


async def test_audience_of_a_task_is_who_sees_it(session: AsyncSession, viewers: Sequence[Actor], user: User) -> None:
    for status in TaskStatus:
        task = await create_task(session, owner=user, status=status)
        for visibility in (viewer.visibility for viewer in viewers):
            assert visibility.sees(task) == visibility.reads(EventType.TASK_UPDATED, audience_of(task))


def places_that_ask() -> Iterator[str]:
    for path in APP.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr == "is_admin":
                yield path.relative_to(APP).as_posix()


def test_only_permissions_say_what_admins_see() -> None:
    assert set(places_that_ask()) == ABOUT_ACCOUNTS
