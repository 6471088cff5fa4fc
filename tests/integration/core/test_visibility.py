"""What is found with a statement that is kept for all who see alike, on the real database."""

from collections.abc import Sequence
from itertools import product
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.permissions import Actor, audience_of, select_visible_events, select_visible_tasks
from app.database import Database
from app.db.statements import keep
from app.models import Event, EventType, TaskStatus, User
from tests.builders.tasks import create_task

LINUS = UUID(int=4)


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


async def test_audience_of_a_task_is_who_sees_it(session: AsyncSession, viewers: Sequence[Actor], user: User) -> None:
    for status in TaskStatus:
        task = await create_task(session, owner=user, status=status)
        for visibility in (viewer.visibility for viewer in viewers):
            assert visibility.sees(task) == visibility.reads(EventType.TASK_UPDATED, audience_of(task))
