"""The way to PostgreSQL: connections, transactions, and the lock that only one can hold."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import HiveError
from app.core.permissions import Actor
from app.database import Database
from app.db.transaction import Transaction
from app.models import Event, EventLog, User
from app.services import ChatService
from tests.builders.users import create_user
from tests.utils.test_utils import wait_for_free_lock

LOCK = 77_001


@pytest.fixture
async def connected(database_url: str) -> AsyncIterator[Database]:
    """The database as a provider might write it."""
    scheme, rest = database_url.split("://")
    url = f"{scheme.replace('postgresql', 'postgres')}://{rest}&sslmode=prefer&channel_binding=prefer&connect_timeout=9"
    database = Database.connect(url, application="unit test", pool_size=3)
    yield database
    await database.close()


async def test_an_address_with_a_providers_options_connects(connected: Database) -> None:
    async with connected.unit_of_work() as session:
        assert await session.scalar(select(1)) == 1


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("TimeZone", "UTC"),
        ("statement_timeout", "15s"),
        ("lock_timeout", "5s"),
        ("idle_in_transaction_session_timeout", "30s"),
        ("transaction_isolation", "read committed"),
    ],
)
async def test_a_connection_has_its_bounds(connected: Database, setting: str, value: str) -> None:
    async with connected.unit_of_work() as session:
        assert await session.scalar(select(func.current_setting(setting))) == value


async def test_a_unit_of_work_is_committed_at_its_end(database: Database, session: AsyncSession) -> None:
    async with database.unit_of_work() as work:
        await create_user_in(work)

    assert await users_in(session) == 1


async def create_user_in(work: Transaction) -> None:
    work.add(User(email="ada@example.org", display_name="Ada", password_hash=""))
    await work.flush()


async def users_in(session: AsyncSession) -> int:
    return await session.scalar(select(func.count()).select_from(User)) or 0


async def test_a_unit_of_work_that_raises_leaves_nothing(database: Database, session: AsyncSession) -> None:
    with pytest.raises(LookupError):
        async with database.unit_of_work() as work:
            await create_user_in(work)
            raise LookupError

    assert await users_in(session) == 0


async def test_a_unit_of_work_that_raises_raises_what_was_raised(database: Database) -> None:
    error = HiveError("our own")

    with pytest.raises(HiveError) as raised:
        async with database.unit_of_work():
            raise error

    assert raised.value is error


@pytest.fixture
def wakings(database: Database) -> list[str]:
    """When the relay is woken."""
    seen: list[str] = []
    database.wake_relay = lambda: seen.append("woken")
    return seen


async def test_the_relay_is_woken_after_the_commit_of_an_event(
    database: Database, session: AsyncSession, user: User, wakings: list[str]
) -> None:
    async with database.unit_of_work() as work:
        await ChatService(work).say(Actor.of(user), "Tea is ready")
        assert wakings == []

    assert wakings == ["woken"]
    assert await session.scalar(select(func.count()).select_from(Event)) == 1


async def test_the_relay_is_left_alone_when_there_is_nothing_for_it(
    database: Database, user: User, wakings: list[str]
) -> None:
    async with database.unit_of_work() as work:
        await work.execute(select(User))
    with pytest.raises(LookupError):
        async with database.unit_of_work() as work:
            await ChatService(work).say(Actor.of(user), "Never said")
            raise LookupError

    assert wakings == []


async def test_a_lock_is_held_by_one_at_a_time(connected: Database) -> None:
    async with connected.exclusively(LOCK) as first, connected.exclusively(LOCK) as second:
        assert first is not None
        assert second is None

    await wait_for_free_lock(connected, LOCK)


async def test_another_lock_is_another_lock(connected: Database) -> None:
    async with connected.exclusively(LOCK) as first, connected.exclusively(LOCK + 1) as second:
        assert first is not None
        assert second is not None


async def test_a_lock_ends_with_an_error_too(connected: Database) -> None:
    with pytest.raises(LookupError):
        async with connected.exclusively(LOCK):
            raise LookupError

    await wait_for_free_lock(connected, LOCK)


async def test_whoever_lost_the_lock_can_write_nothing_more(connected: Database) -> None:
    whose = select(func.pg_backend_pid())
    async with connected.exclusively(LOCK) as holder:
        assert holder is not None
        async with holder.unit_of_work() as work:
            pid = await work.scalar(whose)
        async with holder.unit_of_work(is_one_statement=True) as statement:
            assert (
                await statement.scalar(
                    update(EventLog).values(last_seq=EventLog.last_seq).returning(whose.scalar_subquery())
                )
                == pid
            )
        async with connected.unit_of_work() as other:
            await other.execute(text("SELECT pg_terminate_backend(:pid, 90000)"), {"pid": pid})

        with pytest.raises(HiveError) as refused:
            async with holder.unit_of_work() as work:
                await work.scalar(whose)

    assert refused.value.status_code == 503
    await wait_for_free_lock(connected, LOCK)


async def test_a_session_shows_what_was_committed_by_another(database: Database, session: AsyncSession) -> None:
    user = await create_user(session)

    async with database.unit_of_work() as work:
        found = await work.get(User, user.id)

    assert found is not None
    assert found.display_name == user.display_name
