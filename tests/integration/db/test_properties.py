"""What an object has besides the columns of its row: declared once, it's there however it was read or written."""

from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict
from sqlalchemy import bindparam, func, literal_column, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, column_property
from uuid_utils.compat import uuid7

from app.database import Database
from app.db.statements import Statement, keep, whole
from app.db.transaction import Transaction
from app.models import Event, EventType, Task, TaskBlocker, User
from app.reads.json_columns import as_json, columns_of
from tests.builders.tasks import create_task

TASKS = Task.__table__


class Base(DeclarativeBase):
    """Other models of the same tables, so that those of the application stay as they are."""


class Counted(Base):
    """A task with the number of its blockers, and its owner's name, as one may have labels and the key of a project."""

    __table__ = TASKS
    id: Mapped[UUID]
    title: Mapped[str]
    owner_id: Mapped[UUID]
    version: Mapped[int]
    blockers: Mapped[int] = column_property(
        select(func.count()).where(TaskBlocker.task_id == TASKS.c.id).correlate(TASKS).scalar_subquery()
    )
    owner: Mapped[str] = column_property(
        select(User.display_name).where(User.id == TASKS.c.owner_id).correlate(TASKS).scalar_subquery()
    )


class CountedResponse(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: UUID
    blockers: int
    title: str
    owner: str
    version: int


_SEEN = keep(select(Counted).where(Counted.id == bindparam("task_id")))
_LOCKED = keep(_SEEN.with_for_update())
_RAISE = keep(
    update(Counted)
    .where(Counted.id == bindparam("task_id"))
    .values(version=Counted.version + literal_column("1"))
    .returning(*whole(Counted))
)


async def find(transaction: Transaction, task_id: UUID) -> Counted:
    task: Counted | None = await transaction.scalar(_SEEN, {"task_id": task_id})
    assert task is not None
    return task


async def lock(transaction: Transaction, task_id: UUID) -> Counted:
    task: Counted | None = await transaction.scalar(_LOCKED, {"task_id": task_id})
    assert task is not None
    return task


async def raise_version(transaction: Transaction, task_id: UUID) -> Counted:
    task: Counted | None = await transaction.scalar(_RAISE, {"task_id": task_id})
    assert task is not None
    return task


async def edit(transaction: Transaction, task_id: UUID) -> Counted:
    task = await lock(transaction, task_id)
    # As it was before somebody else's change.
    task.blockers, task.title = 0, "Roses"
    await transaction.flush()
    return task


async def edit_with_event(transaction: Transaction, task_id: UUID) -> Counted:
    task = await lock(transaction, task_id)
    task.blockers, task.title = 0, "Roses"
    event = {"actor_id": task.owner_id, "task_id": task.id, "task_version": 2, "data": {}}
    transaction.add(Event(id=uuid7(), type=EventType.TASK_UPDATED, **event))
    await transaction.flush()
    return task


@pytest.mark.parametrize("do", [find, lock, raise_version, edit, edit_with_event])
async def test_objects_have_what_is_no_column(
    database: Database,
    session: AsyncSession,
    user: User,
    do: Callable[[Transaction, UUID], Awaitable[Counted]],
) -> None:
    task, *blockers = [await create_task(session, owner=user) for _ in range(3)]
    session.add_all(TaskBlocker(task_id=task.id, blocker_id=each.id, created_by=user.id) for each in blockers)
    await session.commit()

    async with database.unit_of_work() as transaction:
        done = await do(transaction, task.id)

        assert (done.blockers, done.owner, done.owner_id) == (2, user.display_name, user.id)


async def test_new_object_has_what_is_no_column(database: Database, user: User) -> None:
    async with database.unit_of_work() as transaction:
        task = Counted(id=uuid7(), title="Orchids", owner_id=user.id)
        transaction.add(task)
        await transaction.flush()

        assert (task.blockers, task.owner, task.version) == (0, user.display_name, 1)


def test_update_that_returns_columns_alone_is_refused() -> None:
    with pytest.raises(TypeError, match=r"whole\(Counted\)"):
        Statement.for_once(update(Counted).values(version=1).returning(Counted))


async def test_what_is_no_column_goes_with_the_change(
    database: Database, session: AsyncSession, user: User, other_user: User
) -> None:
    other_user.display_name = "Grace"
    task = await create_task(session, owner=user)

    async with database.unit_of_work() as transaction:
        found = await find(transaction, task.id)
        found.owner_id = other_user.id
        await transaction.flush()

        assert found.owner == "Grace"


async def test_nothing_is_written_for_what_is_no_column(database: Database, session: AsyncSession, user: User) -> None:
    task = await create_task(session, owner=user)

    async with database.unit_of_work() as transaction:
        found = await find(transaction, task.id)
        found.blockers = 7

        assert not transaction.is_changed(found)


async def test_reads_have_what_is_no_column(database: Database, session: AsyncSession, user: User) -> None:
    task, blocker = [await create_task(session, owner=user) for _ in range(2)]
    session.add(TaskBlocker(task_id=task.id, blocker_id=blocker.id, created_by=user.id))
    await session.commit()
    one = select(Counted).where(Counted.id == bindparam("task_id"))
    row = one.with_only_columns(*columns_of(CountedResponse, Counted, {})).subquery("task")
    statement = Statement.of(select(as_json(row)))

    async with database.unit_of_work() as transaction:
        found = await find(transaction, task.id)
    read = await database.read(statement.sql, statement.arguments({"task_id": task.id}))

    assert read is not None
    assert CountedResponse.model_validate_json(read[0]) == CountedResponse.model_validate(found)
    assert CountedResponse.model_validate(found).blockers == 1
