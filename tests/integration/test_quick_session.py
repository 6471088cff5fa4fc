"""The session for changes of tasks: what it reads, what it writes, and what becomes of it when something breaks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import pytest
from sqlalchemy import bindparam, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import HiveError
from app.database import Database, Savepoint
from app.driver_pool import Connections
from app.models import Event, IdempotentRequest, Job, JobName, JobState, Task, TaskStatus, User, UserTaskAssociation
from app.quick_session import QuickSession
from app.session import WAKES_RELAY
from app.statements import columns_read
from tests.builders.tasks import create_task
from tests.utils.driver_connections import ConnectionOfTest
from tests.utils.test_utils import wait_for_lock_waiter

NOBODY = UUID(int=0)


@pytest.fixture
def sent(driver_connections: Connections) -> list[str]:
    """The statements of quick sessions."""
    statements: list[str] = []
    assert isinstance(driver_connections, ConnectionOfTest)
    driver_connections.note = lambda sql, _: statements.append(sql)
    return statements


async def find(session: QuickSession, task: Task) -> Task:
    found: Task = await session.scalar(select(Task).where(Task.id == task.id))
    return found


async def test_a_row_is_the_object_that_sqlalchemy_makes_of_it(
    database: Database, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user, status=TaskStatus.IN_PROGRESS, impact_points=2**62)
    await session.refresh(task)

    async with database.quick_unit_of_work() as quick:
        found = await find(quick, task)

    names = [column.name for column in columns_read(Task)]
    assert len(names) > 15
    for name in names:
        assert getattr(found, name) == getattr(task, name)
    # What is deferred isn't read: it's long, and nothing needs it.
    assert "words" not in found.__dict__
    assert isinstance(found.status, TaskStatus)


async def test_what_is_new_gets_its_defaults_from_here_and_from_there(
    database: Database, session: AsyncSession, user: User
) -> None:
    async with database.quick_unit_of_work() as quick:
        task = Task(title="Orchids", owner_id=user.id)
        job = Job(name=JobName.TEST, arguments={"message": "déjà vu", "list": [1, None]})
        quick.add(task)
        quick.add(job)
        await quick.flush()

        assert (task.status, task.version, task.description, task.priority_rank) == (TaskStatus.DRAFT, 1, "", 3)
        assert task.created_at == task.updated_at == job.created_at
        assert job.state is JobState.WAITING

    kept = await session.get_one(Task, task.id)
    assert (kept.title, kept.created_at) == ("Orchids", task.created_at)
    assert (await session.get_one(Job, job.id)).arguments == {"message": "déjà vu", "list": [1, None]}


async def test_what_is_read_as_json_is_no_text(database: Database, session: AsyncSession) -> None:
    kept = IdempotentRequest(
        user_id=NOBODY, method="POST", path="/", key="k", body_hash="h", status=201, headers={"etag": '"1"'}, body="{}"
    )
    session.add(kept)
    await session.commit()

    async with database.quick_unit_of_work() as quick:
        found = await quick.scalar(select(IdempotentRequest))

    assert found.headers == {"etag": '"1"'}


async def test_only_what_has_changed_is_written(
    database: Database, session: AsyncSession, user: User, sent: list[str]
) -> None:
    task = await create_task(session, owner=user)
    async with database.quick_unit_of_work() as quick:
        found = await find(quick, task)
        await quick.flush()
        assert len(sent) == 1
        found.title, found.version = "Roses", found.version
        before = found.updated_at

    assert "UPDATE tasks SET title=" in sent[1]
    assert "version=" not in sent[1]
    await session.refresh(task)
    assert task.title == "Roses"
    assert task.updated_at == found.updated_at >= before


async def test_a_change_and_what_follows_from_it_are_one_statement(
    database: Database, session: AsyncSession, user: User, sent: list[str]
) -> None:
    task = await create_task(session, owner=user)
    async with database.quick_unit_of_work() as quick:
        found = await find(quick, task)
        found.status, found.assignee_id = TaskStatus.IN_PROGRESS, user.id
        hold = UserTaskAssociation(task_id=task.id, user_id=user.id, assigned_by=user.id)
        quick.add(hold)
        quick.add(Job(name=JobName.TEST, arguments={}))
        await quick.flush()

        assert len(sent) == 2
        assert hold.assigned_at == found.updated_at

    await session.refresh(task)
    assert (task.status, task.assignee_id) == (TaskStatus.IN_PROGRESS, user.id)
    assert await session.scalar(select(func.count()).select_from(UserTaskAssociation)) == 1
    assert await session.scalar(select(func.count()).select_from(Job)) == 1


async def test_rows_of_one_table_are_written_in_the_order_in_which_they_came(
    database: Database, session: AsyncSession, user: User, sent: list[str]
) -> None:
    async with database.quick_unit_of_work() as quick:
        for number in range(20):
            quick.add(Event(type="chat.message", actor_id=user.id, data={"message": str(number)}, audience=[user.id]))

    assert len(sent) == 1
    events = (await session.scalars(select(Event).order_by(Event.position))).all()
    assert [event.data["message"] for event in events] == [str(number) for number in range(20)]
    assert {event.request_id for event in events} == {None}
    assert events[0].audience == [user.id]


async def test_what_was_changed_is_written_before_the_next_statement(
    database: Database, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user)
    raised = update(Task).where(Task.id == task.id).values(version=Task.version + 1).returning(Task)
    async with database.quick_unit_of_work() as quick:
        found = await find(quick, task)
        found.title = "Roses"

        [same] = await quick.scalars(raised)

        assert same is found
        assert (found.title, found.version) == ("Roses", 2)
        assert await quick.execute(select(Task.title, Task.status, Task.version + bindparam("more")), {"more": 5}) == [
            ("Roses", TaskStatus.AVAILABLE, 7)
        ]


async def test_what_is_deleted_is_gone(database: Database, session: AsyncSession, user: User) -> None:
    task = await create_task(session, owner=user)
    async with database.quick_unit_of_work() as quick:
        found = await find(quick, task)
        found.version += 1
        await quick.delete(found)

        assert await quick.scalar(select(Task).where(Task.id == task.id)) is None

    session.expunge_all()
    assert await session.get(Task, task.id) is None


async def test_what_is_undone_is_known_no_longer(database: Database, session: AsyncSession, user: User) -> None:
    task = await create_task(session, owner=user)
    async with database.quick_unit_of_work() as quick:
        found = await find(quick, task)
        found.title = "Roses"
        undone = await Savepoint.begin(quick)
        found.title = "Thistles"
        quick.add(Job(name=JobName.TEST, arguments={}))
        await quick.flush()
        found.title = "Nettles"
        quick.add(Job(name=JobName.TEST, arguments={}))
        await undone.undo()
        kept = await Savepoint.begin(quick)
        quick.add(Event(type="chat.message", actor_id=user.id, data={}))
        await kept.release()
        await undone.release()

        assert (await find(quick, task)).title == "Roses"

    await session.refresh(task)
    assert task.title == "Roses"
    assert await session.scalar(select(func.count()).select_from(Job)) == 0
    assert await session.scalar(select(func.count()).select_from(Event)) == 1


async def test_what_breaks_leaves_nothing_behind_and_is_said_as_an_answer(
    database: Database, session: AsyncSession, user: User
) -> None:
    woken: list[bool] = []
    database.wake_relay = lambda: woken.append(True)
    task = await create_task(session, owner=user)

    with pytest.raises(HiveError) as refused:
        async with database.quick_unit_of_work() as quick:
            quick.info[WAKES_RELAY] = True
            found = await find(quick, task)
            found.title = "Roses"
            await quick.flush()
            found.assignee_id = NOBODY

    assert (refused.value.status_code, refused.value.error_code) == (409, "conflict")
    await session.refresh(task)
    assert task.title == "Water the orchids"
    assert woken == []


async def test_without_a_statement_there_is_no_connection() -> None:
    class Unreachable:
        async def fetch_row(self, *_: object) -> None:
            raise AssertionError

        @asynccontextmanager
        async def connection(self) -> AsyncIterator[None]:
            raise AssertionError
            yield

        transaction = connection

    database = Database(None, writes=Unreachable())  # type: ignore[arg-type]  # Neither is asked for anything.

    async with database.quick_unit_of_work() as quick:
        await quick.flush()


@pytest.mark.committed
async def test_what_is_to_be_one_statement_is_no_second_one(
    database: Database, session: AsyncSession, user: User
) -> None:
    with pytest.raises(RuntimeError, match="second one"):
        async with database.quick_statement() as quick:
            quick.add(Task(title="Orchids", owner_id=user.id))
            quick.add(Task(title="Roses", owner_id=user.id))
    with pytest.raises(RuntimeError, match="second one"):
        async with database.quick_statement() as quick:
            quick.add(Task(title="Thistles", owner_id=user.id))
            await quick.flush()
            await quick.scalar(select(func.now()))

    # Of the first nothing was sent. In the second what had been sent before the fault was committed by itself.
    assert (await session.scalars(select(Task.title))).all() == ["Thistles"]


@pytest.mark.committed
async def test_a_lock_is_held_until_the_end(database: Database, session: AsyncSession, user: User) -> None:
    task = await create_task(session, owner=user)
    locked = select(Task).where(Task.id == task.id).with_for_update()

    async def rename(title: str) -> None:
        async with database.quick_unit_of_work() as quick:
            found = await quick.scalar(locked)
            found.title += title

    async with database.quick_unit_of_work() as quick:
        found = await quick.scalar(locked)
        waiting = asyncio.create_task(rename(" and roses"))
        await wait_for_lock_waiter(session)
        found.title = "Lilies"
    await waiting

    await session.refresh(task)
    assert task.title == "Lilies and roses"


async def test_several_models_in_one_select_are_refused(database: Database) -> None:
    with pytest.raises(TypeError, match="one object at most"):
        async with database.quick_unit_of_work() as quick:
            await quick.execute(select(User, Task).join(Task, Task.owner_id == User.id))


async def test_a_row_that_is_gone_is_not_taken_for_written(
    database: Database, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user)
    with pytest.raises(RuntimeError, match="gone"):
        async with database.quick_unit_of_work() as quick:
            found = await find(quick, task)
            await quick.execute(delete(Task).where(Task.id == task.id))
            found.title = "Roses"


async def test_what_was_set_back_is_no_change(
    database: Database, session: AsyncSession, user: User, sent: list[str]
) -> None:
    task = await create_task(session, owner=user)
    async with database.quick_unit_of_work() as quick:
        found = await find(quick, task)
        found.title = "Roses"
        found.title = "Water the orchids"

    assert len(sent) == 1
