"""The connections to PostgreSQL: what becomes of those that break, are taken, or get no answer."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack

import asyncpg
import pytest
from sqlalchemy import select

from app.core.errors import HiveError
from app.database import Database, driver_options
from app.db.limit import ConnectionLimit
from app.db.pool import DriverPool
from tests.utils.databases import run_sql
from tests.utils.test_utils import wait_until_async

MY_ID = "SELECT pg_backend_pid()"
LONG = "SELECT pg_sleep(30)"

MakePool = Callable[..., DriverPool]


@pytest.fixture
async def make(database_url: str) -> AsyncIterator[MakePool]:
    async with AsyncExitStack() as stack:

        def make(
            *, size: int = 1, wait_seconds: float = 3, answer_seconds: float = 20, stands_still: bool = False
        ) -> DriverPool:
            options = driver_options(database_url, application="test pool", answer_seconds=answer_seconds)
            limit = ConnectionLimit(options, most=size, wait_seconds=wait_seconds, stands_still=stands_still)
            pool = DriverPool(limit)
            stack.push_async_callback(pool.close)
            return pool

        yield make


async def backend(pool: DriverPool) -> int:
    row = await pool.fetch_row(MY_ID, [])
    assert row is not None
    return int(row[0])


async def is_asleep(url: str) -> bool:
    sleeping = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'hive test pool' AND query ~ '^SELECT pg_s'"
    )
    return bool(await run_sql(url, f"{sleeping} AND state = 'active'"))


async def test_a_connection_serves_one_after_the_other(make: MakePool) -> None:
    pool = make(size=5)

    assert len({await backend(pool) for _ in range(10)}) == 1


async def test_a_connection_that_the_server_has_closed_meets_nobody(make: MakePool, database_url: str) -> None:
    pool = make()
    before = await backend(pool)
    await run_sql(database_url, f"SELECT pg_terminate_backend({before}, 90000)")
    ((_, idle),) = pool._idle._waiting

    async def is_noticed() -> bool:
        return idle.is_closed()

    await wait_until_async(is_noticed, what="the end of the connection")

    assert await backend(pool) != before


@pytest.mark.parametrize("size", [1, 3])
async def test_what_the_server_closed_while_the_loop_stood_still_meets_nobody(
    make: MakePool, database_url: str, size: int
) -> None:
    pool = make(size=size, stands_still=True)
    before = set(await asyncio.gather(*(backend(pool) for _ in range(size))))
    assert await backend(pool) in before
    ended = f"SELECT count(pg_terminate_backend(pid, 90000)) FROM unnest(ARRAY{sorted(before)}) AS pid"

    with ThreadPoolExecutor() as threads:
        # The loop waits for the thread, and reads nothing meanwhile.
        threads.submit(asyncio.run, run_sql(database_url, ended)).result()

    assert await backend(pool) not in before


async def test_whoever_finds_all_taken_waits_for_a_while(make: MakePool, database_url: str) -> None:
    pool = make(wait_seconds=0.1)
    taking = asyncio.create_task(pool.fetch_row(LONG, []))
    await wait_until_async(lambda: is_asleep(database_url), what="the connection to be taken")

    with pytest.raises(TimeoutError):
        await backend(pool)

    taking.cancel()
    await asyncio.gather(taking, return_exceptions=True)


async def test_what_is_given_up_leaves_a_place_behind(make: MakePool, database_url: str) -> None:
    pool = make()
    taking = asyncio.create_task(pool.fetch_row(LONG, []))
    await wait_until_async(lambda: is_asleep(database_url), what="the statement to run")
    taking.cancel()
    await asyncio.gather(taking, return_exceptions=True)

    assert await backend(pool)


async def test_a_connection_without_an_answer_is_given_up(make: MakePool) -> None:
    pool = make(answer_seconds=0.2)
    before = await backend(pool)

    with pytest.raises(TimeoutError):
        await pool.fetch_row(LONG, [])

    assert await backend(pool) != before


async def test_time_outs_of_the_server_hold(make: MakePool) -> None:
    row = await make().fetch_row("SELECT current_setting('statement_timeout'), current_setting('timezone')", [])

    assert row is not None
    assert tuple(row) == ("15s", "UTC")


async def is_in_transaction(pool: DriverPool) -> bool:
    """Whether the pool's one connection, which is free, was left in a transaction."""
    before = await pool.fetch_row("SELECT now()", [])
    after = await pool.fetch_row("SELECT now()", [])
    return before == after


async def is_nothing_left(pool: DriverPool) -> bool:
    row = await pool.fetch_row("SELECT to_regclass('left_behind') IS NULL", [])
    return row is not None and bool(row[0])


async def test_what_is_raised_within_a_transaction_ends_it_and_not_its_connection(make: MakePool) -> None:
    pool = make()
    before = await backend(pool)

    with pytest.raises(LookupError):
        async with pool.transaction() as connection:
            await connection.execute("CREATE TABLE left_behind ()")
            raise LookupError
    with pytest.raises(asyncpg.DivisionByZeroError):
        async with pool.transaction() as connection:
            await connection.execute("SELECT 1 / 0")

    assert not await is_in_transaction(pool)
    assert await is_nothing_left(pool)
    assert await backend(pool) == before


@pytest.mark.parametrize("silence", [TimeoutError, asyncio.CancelledError])
async def test_who_gives_up_within_a_transaction_leaves_no_connection(
    make: MakePool, silence: type[BaseException]
) -> None:
    pool = make()
    before = await backend(pool)

    with pytest.raises(silence):
        async with pool.transaction() as connection:
            await connection.execute("CREATE TABLE left_behind ()")
            raise silence

    assert await backend(pool) != before
    assert await is_nothing_left(pool)


@pytest.mark.parametrize("is_within_a_transaction", [True, False])
async def test_a_connection_that_is_lost_while_it_is_used_is_a_503(
    database_url: str, *, is_within_a_transaction: bool
) -> None:
    database = Database.connect(database_url, application="test losses", pool_size=1)
    for _ in range(5):
        with pytest.raises(HiveError) as raised:
            async with database.unit_of_work(is_one_statement=not is_within_a_transaction) as transaction:
                connection = await transaction._connected(for_one=True)
                mine = await connection.fetchval(MY_ID)
                await run_sql(database_url, f"SELECT pg_terminate_backend({mine}, 90000)")
                await connection.execute("SELECT 1")

        assert (raised.value.status_code, raised.value.error_code) == (503, "database_unavailable")
    async with database.unit_of_work() as transaction:
        assert await transaction.scalar(select(1)) == 1
    await database.close()


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("postgresql:///hive?host=/nowhere", "database_unavailable"),
        ("postgresql://nobody@127.0.0.1:1/none", "database_unavailable"),
    ],
)
async def test_a_database_that_is_away_is_a_503(url: str, code: str) -> None:
    database = Database.connect(url, application="test away", pool_size=1)

    with pytest.raises(HiveError) as raised:
        await database.read(MY_ID, [])

    assert (raised.value.status_code, raised.value.error_code) == (503, code)
    await database.close()


async def test_a_statement_that_takes_too_long_is_a_503_and_one_that_is_wrong_a_fault_of_ours(
    database_url: str,
) -> None:
    database = Database.connect(database_url, application="test faults", pool_size=1)
    with pytest.raises(HiveError) as raised:
        await database.read(
            "SELECT set_config('statement_timeout', '50ms', false), pg_sleep(0)", []
        ) and await database.read(LONG, [])
    assert (raised.value.status_code, raised.value.error_code) == (503, "too_slow")

    with pytest.raises(asyncpg.PostgresSyntaxError):
        await database.read("SELEC 1", [])
    with pytest.raises(asyncpg.DataError):
        await database.read("SELECT $1::int", ["one"])
    await database.close()
