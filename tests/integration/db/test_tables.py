"""What the tables refuse and fill in, on the real database."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import CONSTRAINT_ERRORS
from app.database import Database
from app.models import (
    HELD_STATUSES,
    Base,
    Event,
    EventLog,
    EventType,
    Job,
    JobName,
    JobState,
    Task,
    TaskPriority,
    TaskStatus,
    User,
    UserTaskAssociation,
)
from app.models.base import NAMING_CONVENTION
from tests.builders.tasks import create_task
from tests.builders.users import create_user

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@asynccontextmanager
async def refused_by(session: AsyncSession, constraint: str) -> AsyncIterator[None]:
    """What is flushed within has to be refused by this constraint."""
    with pytest.raises(IntegrityError) as refused:
        yield
        await session.flush()
    await session.rollback()
    assert getattr(getattr(refused.value.orig, "__cause__", None), "constraint_name", None) == constraint


def new_user(**values: Any) -> User:
    return User(**({"email": f"{uuid4()}@example.org", "display_name": "Ada", "password_hash": ""} | values))


@pytest.mark.parametrize("again", ["ada@example.org", "ADA@EXAMPLE.ORG", "Ada@Example.Org"])
async def test_an_address_is_there_once_whatever_its_case(session: AsyncSession, again: str) -> None:
    await create_user(session, email="Ada@example.org")

    async with refused_by(session, "uq_users_email_key"):
        session.add(new_user(email=again))


async def test_an_impact_score_is_never_negative(session: AsyncSession) -> None:
    async with refused_by(session, "ck_users_impact_score_not_negative"):
        session.add(new_user(impact_score=-1))


@pytest.mark.parametrize("status", TaskStatus)
async def test_a_task_has_a_holder_exactly_while_it_is_worked_on_or_completed(
    session: AsyncSession, user: User, status: TaskStatus
) -> None:
    async with refused_by(session, "ck_tasks_held_while_worked_on"):
        session.add(
            Task(
                title="Orchids",
                owner_id=user.id,
                status=status,
                assignee_id=None if status in HELD_STATUSES else user.id,
                completed_at=NOW if status is TaskStatus.COMPLETED else None,
            )
        )


@pytest.mark.parametrize("status", TaskStatus)
async def test_a_task_has_a_completed_time_exactly_when_it_is_completed(
    session: AsyncSession, user: User, status: TaskStatus
) -> None:
    async with refused_by(session, "ck_tasks_completed_at_when_completed"):
        session.add(
            Task(
                title="Orchids",
                owner_id=user.id,
                status=status,
                assignee_id=user.id if status in HELD_STATUSES else None,
                completed_at=None if status is TaskStatus.COMPLETED else NOW,
            )
        )


async def test_impact_points_are_never_negative(session: AsyncSession, user: User) -> None:
    async with refused_by(session, "ck_tasks_impact_points_not_negative"):
        session.add(Task(title="Orchids", owner_id=user.id, impact_points=-1))


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("UPDATE tasks SET status = 'paused'", "ck_tasks_status_known"),
        ("UPDATE tasks SET status = 'DRAFT'", "ck_tasks_status_known"),
        ("UPDATE tasks SET priority = 'extreme'", "ck_tasks_priority_known"),
        ("UPDATE jobs SET name = 'unheard of'", "ck_jobs_name_known"),
        ("UPDATE events SET type = 'unheard.of'", "ck_events_type_known"),
        ("UPDATE jobs SET state = 'lost'", "ck_jobs_state_known"),
        ("UPDATE jobs SET state = 'done'", "ck_jobs_done_at_when_done"),
        ("UPDATE jobs SET done_at = now()", "ck_jobs_done_at_when_done"),
        ("UPDATE events SET task_version = NULL", "ck_events_version_of_change"),
        ("UPDATE events SET task_id = NULL", "ck_events_version_of_change"),
        ("UPDATE events SET task_id = NULL, task_version = NULL", "ck_events_version_of_change"),
        ("UPDATE events SET type = 'chat.message'", "ck_events_version_of_change"),
        ("INSERT INTO event_log (id) VALUES (2)", "ck_event_log_one_row"),
        ("INSERT INTO event_log (id) VALUES (1)", "pk_event_log"),
    ],
)
async def test_the_database_refuses_what_no_model_would_say(
    session: AsyncSession, user: User, statement: str, constraint: str
) -> None:
    task = await create_task(session, owner=user)
    session.add(Job(name=JobName.TEST, arguments={}))
    session.add(Event(type="task.created", actor_id=user.id, task_id=task.id, task_version=1, data={}))
    await session.commit()

    async with refused_by(session, constraint):
        await session.execute(text(statement))


@pytest.mark.parametrize("column", ["title", "status", "priority", "category", "owner_id", "version", "impact_points"])
async def test_a_task_lacks_nothing(session: AsyncSession, user: User, column: str) -> None:
    await create_task(session, owner=user)

    with pytest.raises(IntegrityError, match=f'null value in column "{column}"'):
        await session.execute(text(f"UPDATE tasks SET {column} = NULL"))


async def test_a_vocabulary_takes_only_its_members(session: AsyncSession, user: User) -> None:
    session.add(Task(title="Orchids", owner_id=user.id, status="paused"))

    with pytest.raises(Exception, match="'paused' is not a valid TaskStatus"):
        await session.flush()


async def test_a_task_needs_an_owner_that_there_is(session: AsyncSession) -> None:
    async with refused_by(session, "fk_tasks_owner_id_users"):
        session.add(Task(title="Orchids", owner_id=uuid4()))


async def test_a_task_needs_a_holder_that_there_is(session: AsyncSession, user: User) -> None:
    async with refused_by(session, "fk_tasks_assignee_id_users"):
        session.add(Task(title="Orchids", owner_id=user.id, status=TaskStatus.IN_PROGRESS, assignee_id=uuid4()))


async def test_an_account_that_tasks_name_is_not_deleted(session: AsyncSession, user: User) -> None:
    await create_task(session, owner=user)

    async with refused_by(session, "fk_tasks_owner_id_users"):
        await session.delete(user)


async def test_a_task_is_held_once_at_a_time(session: AsyncSession, user: User, other_user: User) -> None:
    task = await create_task(session, owner=user, status=TaskStatus.IN_PROGRESS)

    async with refused_by(session, "uq_user_task_associations_open"):
        session.add(UserTaskAssociation(task_id=task.id, user_id=other_user.id, assigned_by=user.id))


async def test_a_task_is_held_often_one_after_the_other(session: AsyncSession, user: User) -> None:
    task = await create_task(session, owner=user, status=TaskStatus.IN_PROGRESS)
    earlier = UserTaskAssociation(task_id=task.id, user_id=user.id, assigned_by=user.id, released_at=NOW)
    another = UserTaskAssociation(task_id=task.id, user_id=user.id, assigned_by=user.id, released_at=NOW)

    session.add_all([earlier, another])
    await session.flush()

    assert (earlier.task_id, another.task_id) == (task.id, task.id)


async def test_each_version_of_a_task_has_one_event(session: AsyncSession, user: User) -> None:
    task_id = uuid4()
    session.add(Event(type="task.updated", actor_id=user.id, task_id=task_id, task_version=2, data={}))
    await session.commit()

    async with refused_by(session, "uq_events_task_id_task_version"):
        session.add(Event(type="task.deleted", actor_id=user.id, task_id=task_id, task_version=2, data={}))


@pytest.mark.parametrize("kind", EventType)
async def test_events_have_a_version_if_they_change_their_task(
    session: AsyncSession, user: User, kind: EventType
) -> None:
    def event(version: int | None) -> Event:
        return Event(type=kind, actor_id=user.id, task_id=uuid4(), task_version=version, data={})

    session.add(event(1 if kind.raises_version else None))
    await session.commit()

    async with refused_by(session, "ck_events_version_of_change"):
        session.add(event(None if kind.raises_version else 1))


async def test_each_number_of_the_log_is_given_once(session: AsyncSession, user: User) -> None:
    session.add(Event(type="chat.message", actor_id=user.id, seq=10**15, data={}))
    await session.commit()

    async with refused_by(session, "uq_events_seq"):
        session.add(Event(type="chat.message", actor_id=user.id, seq=10**15, data={}))


async def test_events_without_a_task_and_without_a_number_are_many(session: AsyncSession, user: User) -> None:
    events = [Event(type="chat.message", actor_id=user.id, data={}) for _ in range(3)]
    session.add_all(events)
    await session.flush()

    assert len({event.position for event in events}) == 3
    assert {event.seq for event in events} == {None}


async def test_the_position_of_an_event_is_the_databases_to_give(session: AsyncSession, user: User) -> None:
    session.add(Event(type="chat.message", actor_id=user.id, position=5, data={}))

    with pytest.raises(DBAPIError, match="cannot insert a non-DEFAULT value"):
        await session.flush()


async def test_the_log_has_its_one_row_from_the_beginning(session: AsyncSession) -> None:
    log = await session.get_one(EventLog, 1)

    assert log.epoch.version == 4
    assert log.published_seq <= log.last_seq


MAKERS: dict[str, Callable[[User], Base]] = {
    "user": lambda _: new_user(),
    "task": lambda user: Task(title="Orchids", owner_id=user.id),
    "event": lambda user: Event(type="chat.message", actor_id=user.id, data={}),
    "job": lambda _: Job(name=JobName.TEST, arguments={}),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
async def test_what_the_server_fills_in_is_there_after_the_flush(
    database: Database, user: User, make: Callable[[User], Base]
) -> None:
    """An answer is made between flush and commit, when nothing is read any more."""
    row = make(user)
    async with database.unit_of_work() as transaction:
        transaction.add(row)

        await transaction.flush()

        for column in inspect(type(row)).columns:
            value = getattr(row, column.key)
            assert value is not None or column.nullable, column


async def test_what_the_server_fills_in_is_what_the_contract_says(session: AsyncSession, user: User) -> None:
    task, job = Task(title="Orchids", owner_id=user.id), Job(name=JobName.TEST, arguments={})
    session.add_all([task, job])
    await session.flush()

    assert (task.status, task.priority, task.category, task.description) == (
        TaskStatus.DRAFT,
        TaskPriority.MEDIUM,
        "general",
        "",
    )
    assert (task.impact_points, task.version, task.due_at, task.priority_rank) == (0, 1, None, 3)
    assert (job.state, job.sends, job.attempts) == (JobState.WAITING, 0, 0)
    assert (user.role, user.skills, user.impact_score, user.is_active, user.is_admin) == ("", [], 0, True, False)


async def test_what_the_server_changes_is_there_after_the_flush_of_an_update(
    database: Database, session: AsyncSession, user: User
) -> None:
    task_id = (await create_task(session, owner=user)).id
    async with database.unit_of_work() as transaction:
        task = await transaction.get_locked(Task, task_id)

        task.priority = TaskPriority.URGENT
        await transaction.flush()

        assert task.priority_rank == 1


@pytest.mark.parametrize(("priority", "rank"), [("urgent", 1), ("high", 2), ("medium", 3), ("low", 4)])
async def test_the_rank_of_a_priority_is_its_urgency(
    session: AsyncSession, user: User, priority: str, rank: int
) -> None:
    task = await create_task(session, owner=user, priority=TaskPriority(priority))

    assert task.priority_rank == rank


async def test_times_are_utc_with_zone(session: AsyncSession, user: User) -> None:
    task = await create_task(session, owner=user, due_at=datetime.fromisoformat("2030-01-01T02:00:00+02:00"))
    await session.refresh(task)

    for moment in (task.created_at, task.updated_at, task.due_at):
        assert moment is not None
        assert moment.utcoffset() == timedelta(0)
    assert task.due_at == NOW


@pytest.mark.committed
async def test_updated_at_moves_with_each_change_and_created_at_does_not(session: AsyncSession, user: User) -> None:
    task = await create_task(session, owner=user)
    created, updated = task.created_at, task.updated_at
    assert created == updated

    task.title = "Roses"
    await session.commit()
    await session.refresh(task)

    assert task.created_at == created
    assert task.updated_at > updated


async def test_ids_are_uuid7_and_rise(session: AsyncSession, user: User) -> None:
    tasks = [Task(title="Orchids", owner_id=user.id) for _ in range(3)]
    for task in tasks:
        session.add(task)
        await session.flush()

    assert {task.id.version for task in tasks} == {7}
    assert [task.id for task in tasks] == sorted(task.id for task in tasks)


async def test_every_constraint_of_the_database_is_named_by_the_convention(session: AsyncSession) -> None:
    statement = text(
        "SELECT conrelid::regclass::text, conname, contype FROM pg_constraint"
        " WHERE connamespace = 'public'::regnamespace AND contype IN ('c', 'f', 'p', 'u')"
    )
    kinds = {b"c": "ck", b"f": "fk", b"p": "pk", b"u": "uq"}
    found = [row for row in await session.execute(statement) if row[0] != "alembic_version"]

    assert len(found) > 20
    for table, name, kind in found:
        assert re.match(rf"{kinds[kind]}_{table}(_|$)", name), name


async def test_every_index_of_the_database_is_named_by_the_convention(session: AsyncSession) -> None:
    statement = text("SELECT tablename, indexname FROM pg_indexes WHERE schemaname = 'public'")

    for table, name in await session.execute(statement):
        assert table == "alembic_version" or re.match(rf"(ix|uq|pk)_{table}(_|$)", name), name


async def test_the_database_has_just_the_constraints_of_the_models(session: AsyncSession) -> None:
    statement = text(
        "SELECT conname FROM pg_constraint WHERE connamespace = 'public'::regnamespace"
        " AND contype IN ('c', 'f', 'p', 'u') AND conrelid::regclass::text != 'alembic_version'"
    )
    declared = {str(constraint.name) for table in Base.metadata.tables.values() for constraint in table.constraints}

    assert set(await session.scalars(statement)) == declared
    assert set(NAMING_CONVENTION) == {"ix", "uq", "ck", "fk", "pk"}


async def test_every_constraint_that_has_an_answer_exists(session: AsyncSession) -> None:
    statement = text(
        "SELECT conname FROM pg_constraint WHERE connamespace = 'public'::regnamespace"
        " UNION SELECT indexname FROM pg_indexes WHERE schemaname = 'public'"
    )

    assert set(CONSTRAINT_ERRORS) <= set(await session.scalars(statement))
