"""The transaction: what it reads, what it writes, and what becomes of it when something breaks."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import bindparam, delete, func, insert, select, text, update
from sqlalchemy.exc import NoResultFound
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.dml import ReturningInsert
from uuid_utils.compat import uuid7

from app.core.errors import HiveError
from app.database import Database
from app.db.pool import Connections
from app.db.statements import columns_read, whole
from app.db.transaction import WAKES_RELAY, Transaction
from app.models import (
    Event,
    IdempotentRequest,
    Job,
    JobName,
    JobState,
    Task,
    TaskBlocker,
    TaskStatus,
    User,
    UserTaskAssociation,
)
from tests.builders.tasks import create_task
from tests.utils.driver_connections import ConnectionOfTest, NotingConnections
from tests.utils.test_utils import wait_for_lock_waiter

NOBODY = UUID(int=0)


@pytest.fixture
def sent(driver_connections: Connections) -> list[str]:
    """The statements of transactions."""
    statements: list[str] = []
    assert isinstance(driver_connections, ConnectionOfTest)
    driver_connections.note = lambda sql, _: statements.append(sql)
    return statements


async def find(transaction: Transaction, task: Task) -> Task:
    found = await transaction.get(Task, task.id)
    assert found is not None
    return found


async def test_a_row_is_the_object_that_sqlalchemy_makes_of_it(
    database: Database, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user, status=TaskStatus.IN_PROGRESS, impact_points=2**62)
    await session.refresh(task)

    async with database.unit_of_work() as transaction:
        found = await find(transaction, task)

    names = columns_read(Task)
    assert len(names) > 15
    for name in names:
        assert getattr(found, name) == getattr(task, name)
    # What is deferred isn't read: it's long, and nothing needs it.
    assert "words" not in found.__dict__
    assert isinstance(found.status, TaskStatus)


async def test_what_is_new_gets_its_defaults_from_here_and_from_there(
    database: Database, session: AsyncSession, user: User
) -> None:
    async with database.unit_of_work() as transaction:
        task = Task(title="Orchids", owner_id=user.id)
        job = Job(name=JobName.TEST, arguments={"message": "déjà vu", "list": [1, None]})
        transaction.add(task)
        transaction.add(job)
        await transaction.flush()

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

    async with database.unit_of_work() as transaction:
        found = await transaction.scalar(select(IdempotentRequest))

    assert found is not None
    assert found.headers == {"etag": '"1"'}


async def test_only_what_has_changed_is_written(
    database: Database, session: AsyncSession, user: User, sent: list[str]
) -> None:
    task = await create_task(session, owner=user)
    async with database.unit_of_work() as transaction:
        found = await find(transaction, task)
        await transaction.flush()
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
    async with database.unit_of_work() as transaction:
        found = await find(transaction, task)
        found.status, found.assignee_id = TaskStatus.IN_PROGRESS, user.id
        hold = UserTaskAssociation(task_id=task.id, user_id=user.id, assigned_by=user.id)
        transaction.add(hold)
        transaction.add(Job(name=JobName.TEST, arguments={}))
        await transaction.flush()

        assert len(sent) == 2
        assert hold.assigned_at == found.updated_at

    await session.refresh(task)
    assert (task.status, task.assignee_id) == (TaskStatus.IN_PROGRESS, user.id)
    assert await session.scalar(select(func.count()).select_from(UserTaskAssociation)) == 1
    assert await session.scalar(select(func.count()).select_from(Job)) == 1


async def test_rows_of_one_table_are_written_in_the_order_in_which_they_came(
    database: Database, session: AsyncSession, user: User, sent: list[str]
) -> None:
    async with database.unit_of_work() as transaction:
        for number in range(20):
            transaction.add(
                Event(type="chat.message", actor_id=user.id, data={"message": str(number)}, audience=[user.id])
            )

    assert len(sent) == 1
    events = (await session.scalars(select(Event).order_by(Event.position))).all()
    assert [event.data["message"] for event in events] == [str(number) for number in range(20)]
    assert {event.request_id for event in events} == {None}
    assert events[0].audience == [user.id]


async def test_what_was_changed_is_written_before_the_next_statement(
    database: Database, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user)
    raised = update(Task).where(Task.id == task.id).values(version=Task.version + 1).returning(*whole(Task))
    async with database.unit_of_work() as transaction:
        found = await find(transaction, task)
        found.title = "Roses"

        [same] = await transaction.scalars(raised)

        assert same is found
        assert (found.title, found.version) == ("Roses", 2)
        assert await transaction.execute(
            select(Task.title, Task.status, Task.version + bindparam("more")), {"more": 5}
        ) == [("Roses", TaskStatus.AVAILABLE, 7)]


async def test_what_is_deleted_is_gone(database: Database, session: AsyncSession, user: User) -> None:
    task = await create_task(session, owner=user)
    async with database.unit_of_work() as transaction:
        found = await find(transaction, task)
        found.version += 1
        await transaction.delete(found)

        assert await transaction.scalar(select(Task).where(Task.id == task.id)) is None

    session.expunge_all()
    assert await session.get(Task, task.id) is None


async def test_what_is_undone_is_known_no_longer(database: Database, session: AsyncSession, user: User) -> None:
    task = await create_task(session, owner=user)
    async with database.unit_of_work() as transaction:
        found = await find(transaction, task)
        found.title = "Roses"
        undone = await transaction.savepoint()
        found.title = "Thistles"
        transaction.add(Job(name=JobName.TEST, arguments={}))
        await transaction.flush()
        found.title = "Nettles"
        transaction.add(Job(name=JobName.TEST, arguments={}))
        await undone.undo()
        kept = await transaction.savepoint()
        transaction.add(Event(type="chat.message", actor_id=user.id, data={}))
        await kept.release()
        await undone.release()

        assert (await find(transaction, task)).title == "Roses"

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
        async with database.unit_of_work() as transaction:
            transaction.info[WAKES_RELAY] = True
            found = await find(transaction, task)
            found.title = "Roses"
            await transaction.flush()
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

    database = Database(Unreachable())  # type: ignore[arg-type]  # It is asked for nothing.

    async with database.unit_of_work() as transaction:
        await transaction.flush()


@pytest.mark.committed
async def test_a_lock_is_held_until_the_end(database: Database, session: AsyncSession, user: User) -> None:
    task = await create_task(session, owner=user)

    async def rename(title: str) -> None:
        async with database.unit_of_work() as transaction:
            found = await transaction.get_locked(Task, task.id)
            found.title += title

    async with database.unit_of_work() as transaction:
        found = await transaction.get_locked(Task, task.id)
        waiting = asyncio.create_task(rename(" and roses"))
        await wait_for_lock_waiter(session)
        found.title = "Lilies"
    await waiting

    await session.refresh(task)
    assert task.title == "Lilies and roses"


async def test_a_row_that_is_gone_is_not_taken_for_written(
    database: Database, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user)
    with pytest.raises(RuntimeError, match="gone"):
        async with database.unit_of_work() as transaction:
            found = await find(transaction, task)
            await transaction.execute(delete(Task).where(Task.id == task.id))
            found.title = "Roses"


async def test_what_was_set_back_is_no_change(
    database: Database, session: AsyncSession, user: User, sent: list[str]
) -> None:
    task = await create_task(session, owner=user)
    async with database.unit_of_work() as transaction:
        found = await find(transaction, task)
        found.title = "Roses"
        found.title = "Water the orchids"

    assert len(sent) == 1


async def test_several_objects_in_a_row_and_none_where_an_outer_join_finds_no_row(
    database: Database, session: AsyncSession, user: User, other_user: User
) -> None:
    tasks = [await create_task(session, owner=user, title=title) for title in ("Orchids", "Roses")]
    owned = select(User, Task, Task.title).outerjoin(Task, Task.owner_id == User.id).order_by(User.id, Task.title)

    async with database.unit_of_work() as transaction:
        rows = await transaction.execute(owned.where(User.id.in_([user.id, other_user.id])))

        assert [(owner.id, task and task.id, title) for owner, task, title in rows] == [
            (user.id, tasks[0].id, "Orchids"),
            (user.id, tasks[1].id, "Roses"),
            (other_user.id, None, None),
        ]
        # There is one object for each row, and it's looked after however it was read.
        assert rows[0][0] is rows[1][0] is await transaction.get(User, user.id)
        rows[1][1].title = "Lilies"

    await session.refresh(tasks[1])
    assert tasks[1].title == "Lilies"


async def test_values_are_what_the_database_works_out(database: Database, session: AsyncSession, user: User) -> None:
    task = await create_task(session, owner=user)
    hour = timedelta(hours=1)
    async with database.unit_of_work() as transaction:
        now: datetime = await transaction.scalar(text("SELECT now()"))
        jobs = [Job(name=JobName.TEST, arguments={}, run_after=func.now() + n * hour) for n in (1, 2)]
        for job in jobs:
            transaction.add(job)
        await transaction.flush()
        assert [job.run_after for job in jobs] == [now + hour, now + 2 * hour]

        found = await find(transaction, task)
        found.due_at, found.version = func.now() + hour, Task.version + 1
        jobs[0].run_after = func.now() - hour
        await transaction.flush()
        assert (found.due_at, found.version, jobs[0].run_after) == (now + hour, 2, now - hour)

    await session.refresh(task)
    assert (task.due_at, task.version) == (now + hour, 2)
    assert (await session.get_one(Job, jobs[0].id)).run_after == now - hour
    assert (await session.get_one(Job, jobs[1].id)).run_after == now + 2 * hour


async def test_what_an_update_works_out_by_itself_may_also_be_given_to_it(
    database: Database, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user)
    async with database.unit_of_work() as transaction:
        found = await find(transaction, task)
        found.updated_at = func.now() - timedelta(days=1)
        job = Job(name=JobName.TEST, arguments={"message": "beside it"})
        transaction.add(job)
        await transaction.flush()

        assert found.updated_at == job.created_at - timedelta(days=1)
        assert job.attempts == 0

    await session.refresh(task)
    assert task.updated_at == found.updated_at


async def test_of_many_objects_each_has_only_its_own_changes_written(
    database: Database, session: AsyncSession, user: User, sent: list[str]
) -> None:
    tasks = [await create_task(session, owner=user) for _ in range(4)]
    async with database.unit_of_work() as transaction:
        found = [await find(transaction, task) for task in tasks]
        sent.clear()
        found[0].title = found[1].title = "Roses"
        found[2].title, found[2].impact_points = "Lilies", 7

    # Those that are alike are one statement, and one with other columns is another.
    changed = [sql.partition(" SET ")[2].partition(" WHERE ")[0] for sql in sent]
    assert ["title=" in each and "impact_points=" in each for each in changed] == [False, True]
    assert all("status=" not in each and "version=" not in each for each in changed)
    for task in tasks:
        await session.refresh(task)
    assert [(task.title, task.impact_points) for task in tasks] == [
        ("Roses", 0),
        ("Roses", 0),
        ("Lilies", 7),
        ("Water the orchids", 0),
    ]


async def test_a_statement_reaches_an_object_only_if_it_answers_it(
    database: Database, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user)
    async with database.unit_of_work() as transaction:
        found = await find(transaction, task)
        await transaction.execute(update(Task).where(Task.id == task.id).values(title="Roses", version=5))
        assert (found.title, found.version) == ("Water the orchids", 1)
        assert not transaction.is_changed(found)

        # What it didn't learn of isn't undone by what it is changed to.
        found.impact_points = 3
        await transaction.flush()
        assert await transaction.get(Task, task.id) is found
        assert (found.title, found.version, found.impact_points) == ("Roses", 5, 3)


async def test_an_object_says_whether_it_is_other_than_its_row(
    database: Database, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user)
    async with database.unit_of_work() as transaction:
        found = await find(transaction, task)
        assert not transaction.is_changed(found)
        found.title = "Roses"
        assert transaction.is_changed(found)
        found.title = task.title
        assert not transaction.is_changed(found)
        found.due_at = func.now()
        assert transaction.is_changed(found)
        await transaction.flush()
        assert not transaction.is_changed(found)


async def test_a_row_that_is_there_or_not(database: Database, session: AsyncSession, user: User) -> None:
    task = await create_task(session, owner=user)
    titles = select(Task.title, Task.version).order_by(Task.title)
    none = titles.where(Task.id == NOBODY)
    async with database.unit_of_work() as transaction:
        assert await transaction.get(Task, NOBODY) is None
        with pytest.raises(NoResultFound, match="Task"):
            await transaction.get_locked(Task, NOBODY)
        assert (await transaction.get_locked(Task, task.id)) is await transaction.get(Task, task.id)
        assert await transaction.first(none) is None
        assert await transaction.scalar(none) is None
        assert (await transaction.execute(none), await transaction.scalars(none)) == ([], [])
        with pytest.raises(ValueError, match="to unpack"):
            await transaction.one(none)

        transaction.add(Task(title="Zinnias", owner_id=user.id))
        assert await transaction.first(titles) == ("Water the orchids", 1)
        with pytest.raises(ValueError, match="to unpack"):
            await transaction.one(titles)
        assert await transaction.one(titles.limit(1)) == ("Water the orchids", 1)
        assert await transaction.scalars(titles) == ["Water the orchids", "Zinnias"]


async def test_texts_are_sent_as_they_are(database: Database, session: AsyncSession, user: User) -> None:
    task = await create_task(session, owner=user)
    named = text("SELECT title, CAST(:more AS int) + version FROM tasks WHERE id = :id")
    async with database.unit_of_work() as transaction:
        (await find(transaction, task)).title = "Roses"

        assert await transaction.one(named, {"id": task.id, "more": 41}) == ("Roses", 42)
        assert await transaction.execute(text("UPDATE tasks SET version = 7")) == []

    await session.refresh(task)
    assert (task.title, task.version) == ("Roses", 7)


async def test_changes_come_before_additions_and_these_before_deletions(
    database: Database, session: AsyncSession, user: User
) -> None:
    old, waiting = await create_task(session, owner=user), await create_task(session, owner=user)
    async with database.unit_of_work() as transaction:
        found = [await find(transaction, task) for task in (old, waiting)]
        await transaction.delete(found[0])
        transaction.add(TaskBlocker(task_id=waiting.id, blocker_id=old.id, created_by=user.id))
        found[1].title = "Roses"

    await session.refresh(waiting)
    assert waiting.title == "Roses"
    # It was there, and went with the task.
    assert await session.scalar(select(func.count()).select_from(TaskBlocker)) == 0
    assert await session.scalar(select(func.count()).select_from(Task)) == 1


async def test_one_of_many_rows_that_is_gone_is_not_taken_for_written(
    database: Database, session: AsyncSession, user: User
) -> None:
    tasks = [await create_task(session, owner=user) for _ in range(3)]
    with pytest.raises(RuntimeError, match="gone"):
        async with database.unit_of_work() as transaction:
            found = [await find(transaction, task) for task in tasks]
            await transaction.execute(delete(Task).where(Task.id == tasks[1].id))
            for each in found:
                each.title = "Roses"

    for task in tasks:
        await session.refresh(task)
    assert {task.title for task in tasks} == {"Water the orchids"}


@pytest.fixture
def noted(driver_connections: Connections, database: Database) -> list[str]:
    """The statements that are sent to a committed test's database."""
    statements: list[str] = []
    database._connections = NotingConnections(driver_connections, lambda sql, _: statements.append(sql))
    return statements


@pytest.fixture
def told(database: Database) -> list[str]:
    """What was done after commits."""
    seen: list[str] = []
    database.wake_relay = lambda: seen.append("woken")
    return seen


def change(title: str, user: User) -> ReturningInsert[UUID]:
    return insert(Task).values(id=uuid7(), title=title, owner_id=user.id).returning(Task.id)


async def is_in_transaction(transaction: Transaction) -> bool:
    return bool(await transaction.scalar(text("SELECT now() <> statement_timestamp()")))


async def titles_in(session: AsyncSession) -> list[str]:
    return list(await session.scalars(select(Task.title).order_by(Task.title)))


@pytest.mark.committed
async def test_a_transaction_that_begins_with_a_change_may_be_that_one_statement(
    database: Database, session: AsyncSession, user: User, noted: list[str], told: list[str]
) -> None:
    async with database.unit_of_work() as transaction:
        transaction.is_one_change = True
        transaction.info[WAKES_RELAY] = True
        transaction.add(Task(title="Orchids", owner_id=user.id))
        transaction.add(Job(name=JobName.TEST, arguments={}))
        await transaction.flush()

        # It's committed, though the block has not ended.
        assert await titles_in(session) == ["Orchids"]
        assert told == []

    assert len(noted) == 1
    assert told == ["woken"]


@pytest.mark.committed
async def test_a_read_may_be_all_that_there_is(database: Database, session: AsyncSession) -> None:
    async with database.unit_of_work(is_one_statement=True) as transaction:
        assert await transaction.scalar(select(func.count()).select_from(Task)) == 0
        with pytest.raises(RuntimeError, match="second one"):
            await transaction.scalar(select(func.now()))


@pytest.mark.committed
@pytest.mark.parametrize("second", ["read", "change", "addition"])
async def test_a_second_statement_is_refused_and_not_sent(
    database: Database, session: AsyncSession, user: User, noted: list[str], told: list[str], second: str
) -> None:
    with pytest.raises(RuntimeError, match="second one"):
        async with database.unit_of_work(is_one_statement=True) as transaction:
            transaction.info[WAKES_RELAY] = True
            await transaction.scalar(change("Orchids", user))
            match second:
                case "read":
                    await transaction.scalar(select(func.now()))
                case "change":
                    await transaction.scalar(change("Roses", user))
                case _:
                    transaction.add(Task(title="Roses", owner_id=user.id))

    # What had been sent before stands, and what follows from it is done.
    assert await titles_in(session) == ["Orchids"]
    assert len(noted) == 1
    assert told == ["woken"]


@pytest.mark.committed
async def test_one_statement_that_fails_has_nothing_follow(
    database: Database, session: AsyncSession, user: User, told: list[str]
) -> None:
    with pytest.raises(HiveError):
        async with database.unit_of_work(is_one_statement=True) as transaction:
            transaction.info[WAKES_RELAY] = True
            transaction.add(Task(title="Orchids", owner_id=NOBODY))

    assert told == []
    assert await titles_in(session) == []


@pytest.mark.committed
@pytest.mark.parametrize("first", ["read", "text", "alike", "savepoint"])
async def test_what_does_not_begin_with_one_change_is_an_ordinary_transaction(
    database: Database, session: AsyncSession, user: User, first: str
) -> None:
    with pytest.raises(LookupError):
        async with database.unit_of_work() as transaction:
            transaction.is_one_change = True
            match first:
                case "read":
                    await transaction.get(User, user.id)
                case "text":
                    await transaction.execute(text("UPDATE users SET version = 2"))
                case "alike":
                    for title in ("Orchids", "Roses"):
                        transaction.add(Task(title=title, owner_id=user.id))
                    await transaction.flush()
                case _:
                    await transaction.savepoint()
            transaction.add(Task(title="Lilies", owner_id=user.id))
            await transaction.flush()
            assert await is_in_transaction(transaction)
            raise LookupError

    assert await titles_in(session) == []
    await session.refresh(user)
    assert user.version == 1


async def test_a_statement_that_leaves_out_what_is_made_here_is_refused(database: Database, user: User) -> None:
    with pytest.raises(TypeError, match=r"\['id'\]"):
        async with database.unit_of_work() as transaction:
            await transaction.execute(insert(Task).values(title="Orchids", owner_id=user.id))


@pytest.fixture
async def narrow(database_url: str) -> AsyncIterator[Database]:
    """A database with one connection, which the next transaction gets only when it was given back."""
    narrow = Database.connect(database_url, application="test transaction", pool_size=1)
    yield narrow
    await narrow.close()


USES: dict[str, Callable[[Transaction], Awaitable[object]]] = {
    "read": lambda transaction: transaction.scalar(select(func.now())),
    "change": lambda transaction: transaction.execute(text("UPDATE users SET role = 'somebody else''s'")),
    "flush": lambda transaction: transaction.flush(),
    "savepoint": lambda transaction: transaction.savepoint(),
    "deletion": lambda transaction: transaction.delete(User()),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("had_begun", [True, False])
async def test_what_has_ended_is_refused_and_reaches_nobody_elses_transaction(
    narrow: Database, use: str, *, had_begun: bool
) -> None:
    async with narrow.unit_of_work() as ended:
        if had_begun:
            await ended.scalar(select(func.now()))

    async with narrow.unit_of_work() as other:
        before = await other.scalar(text("SELECT pg_backend_pid()"))
        with pytest.raises(RuntimeError, match="has ended"):
            await USES[use](ended)
        assert await other.scalar(select(func.count()).where(User.role == "somebody else's")) == 0

    with pytest.raises(RuntimeError, match="has ended"):
        ended.add(User())
    async with narrow.unit_of_work() as following:
        # Neither the connection nor its turn was lost.
        assert await following.scalar(text("SELECT pg_backend_pid()")) == before


async def test_what_has_failed_is_refused_as_well(narrow: Database) -> None:
    with pytest.raises(LookupError):
        async with narrow.unit_of_work() as ended:
            savepoint = await ended.savepoint()
            raise LookupError

    for use in (ended.flush, savepoint.undo, savepoint.release):
        with pytest.raises(RuntimeError, match="has ended"):
            await use()


async def test_two_first_statements_at_once_do_not_become_two_transactions(narrow: Database) -> None:
    async with narrow.unit_of_work() as transaction:
        first, second = await asyncio.gather(
            *(transaction.scalar(text("SELECT pg_backend_pid()")) for _ in range(2)), return_exceptions=True
        )

        assert isinstance(second, RuntimeError)
        assert "still waiting for a connection" in str(second)
        assert await transaction.scalar(text("SELECT pg_backend_pid()")) == first


async def test_a_connection_that_comes_after_the_end_is_given_back(narrow: Database) -> None:
    async with narrow.unit_of_work() as other:
        await other.scalar(select(func.now()))
        async with narrow.unit_of_work() as transaction:
            late = asyncio.create_task(transaction.scalar(select(func.now())))
            # It waits for its turn now.
            await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="has ended"):
        await late
    async with narrow.unit_of_work() as following:
        assert await following.scalar(select(1)) == 1


async def test_objects_from_before_a_savepoint_are_what_they_were_and_looked_after(
    database: Database, session: AsyncSession, user: User
) -> None:
    user.skills = ["watering"]
    task = await create_task(session, owner=user)
    async with database.unit_of_work() as transaction:
        found = await transaction.get(User, user.id)
        deleted = await find(transaction, task)
        assert found is not None
        before, name = found.version, found.display_name
        savepoint = await transaction.savepoint()
        found.role, found.version = "lost", before + 1
        found.skills.append("lost")
        await transaction.flush()
        found.display_name = "lost too"
        await transaction.delete(deleted)
        await transaction.flush()
        await savepoint.undo()

        assert (found.role, found.version, found.skills) == (user.role, before, ["watering"])
        assert not transaction.is_changed(found)
        assert await transaction.get(User, user.id) is found
        found.role = "after undo"
        found.skills.append("pruning")
        deleted.title = "Roses"

    await session.refresh(user)
    await session.refresh(task)
    assert (user.role, user.skills, user.display_name) == ("after undo", ["watering", "pruning"], name)
    assert task.title == "Roses"


async def test_an_inner_savepoint_that_is_undone_leaves_the_outer_one_as_it_was(
    database: Database, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user)
    async with database.unit_of_work() as transaction:
        found = await find(transaction, task)
        outer = await transaction.savepoint()
        found.title = "Roses"
        inner = await transaction.savepoint()
        found.title = "Lilies"
        await transaction.flush()
        await inner.undo()
        assert found.title == "Roses"
        await outer.undo()
        assert found.title == "Water the orchids"
        found.impact_points = 3

    await session.refresh(task)
    assert (task.title, task.impact_points) == ("Water the orchids", 3)


@pytest.mark.parametrize("way", ["read", "written", "added"])
async def test_an_object_that_has_a_row_is_not_added_to_it(
    database: Database, session: AsyncSession, user: User, way: str
) -> None:
    task = await create_task(session, owner=user)
    with pytest.raises(RuntimeError, match="has a row already"):
        async with database.unit_of_work() as transaction:
            known = await find(transaction, task) if way == "read" else Task(title="Roses", owner_id=user.id)
            if way != "read":
                transaction.add(known)
            if way == "written":
                await transaction.flush()
            transaction.add(known)

    assert await titles_in(session) == ["Water the orchids"]


async def test_what_was_undone_or_deleted_can_be_added_again(database: Database, session: AsyncSession) -> None:
    async with database.unit_of_work() as transaction:
        job = Job(name=JobName.TEST, arguments={})
        savepoint = await transaction.savepoint()
        transaction.add(job)
        await transaction.flush()
        await savepoint.undo()
        transaction.add(job)
        await transaction.flush()
        await transaction.delete(job)
        await transaction.flush()
        transaction.add(job)

    assert await session.scalar(select(func.count()).select_from(Job)) == 1


async def test_values_and_expressions_of_one_name_are_told_apart(
    database: Database, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user)
    async with database.unit_of_work() as transaction:
        found, owner = await find(transaction, task), await transaction.get(User, user.id)
        assert owner is not None
        found.version, owner.version = Task.version + 1, 77
        await transaction.flush()
        assert (found.version, owner.version) == (2, 77)
        found.version, owner.version = 88, User.version + 1
        await transaction.flush()

        assert (found.version, owner.version) == (88, 78)


async def test_what_is_changed_in_place_is_written(
    database: Database, session: AsyncSession, user: User, sent: list[str]
) -> None:
    job = Job(name=JobName.TEST, arguments={"message": "before"})
    session.add(job)
    user.skills = []
    await session.flush()
    async with database.unit_of_work() as transaction:
        owner, found = await transaction.get(User, user.id), await transaction.get(Job, job.id)
        assert owner is not None
        assert found is not None
        owner.skills.append("watering")
        assert transaction.is_changed(owner)
        await transaction.flush()
        assert not transaction.is_changed(owner)
        owner.skills.append("pruning")
        found.arguments["message"] = "after"
        await transaction.flush()
        number = len(sent)
        owner.skills.append("lost")
        owner.skills.pop()
        await transaction.flush()
        assert len(sent) == number

    await session.refresh(user)
    await session.refresh(job)
    assert user.skills == ["watering", "pruning"]
    assert job.arguments == {"message": "after"}


CHANGES: dict[str, Callable[[Transaction, User], Awaitable[object]]] = {
    "statement": lambda transaction, user: transaction.execute(update(User).where(User.id == user.id).values(role="")),
    "text": lambda transaction, _: transaction.execute(text("DELETE FROM jobs")),
    "part": lambda transaction, _: transaction.execute(
        select(update(User).values(role="").returning(User.id).cte("changed"))
    ),
    "lock": lambda transaction, user: transaction.get_locked(User, user.id),
    "shared lock": lambda transaction, _: transaction.execute(select(User.id).with_for_update(read=True)),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_transaction_that_only_reads_changes_and_locks_nothing(
    database: Database, user: User, sent: list[str], change: str
) -> None:
    with pytest.raises(RuntimeError, match="only reads"):
        async with database.unit_of_work(is_reading=True) as transaction:
            assert await transaction.get(User, user.id)
            await CHANGES[change](transaction, user)

    assert len(sent) == 1


@pytest.mark.parametrize("change", ["set", "added", "deleted"])
async def test_objects_of_a_transaction_that_only_reads_are_not_written(
    database: Database, session: AsyncSession, user: User, change: str
) -> None:
    task = await create_task(session, owner=user)
    with pytest.raises(RuntimeError, match="only reads"):
        async with database.unit_of_work(is_reading=True) as transaction:
            found = await find(transaction, task)
            match change:
                case "set":
                    found.title = "Roses"
                case "added":
                    transaction.add(Task(title="Roses", owner_id=user.id))
                case _:
                    await transaction.delete(found)

    assert await titles_in(session) == ["Water the orchids"]


async def test_a_transaction_that_was_to_read_may_be_let_change_before_it_begins(
    database: Database, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user)
    async with database.unit_of_work(is_reading=True) as transaction:
        transaction.allow_changes()
        (await transaction.get_locked(Task, task.id)).title = "Roses"
    assert await titles_in(session) == ["Roses"]

    with pytest.raises(RuntimeError, match="has begun"):
        async with database.unit_of_work(is_reading=True) as transaction:
            await find(transaction, task)
            transaction.allow_changes()
