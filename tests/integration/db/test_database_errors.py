"""What the real database raises, and the answer to it."""

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import HiveError
from app.database import ConnectionsInUse, Database, driver_options
from app.db.limit import ConnectionLimit
from app.db.pool import DriverPool


async def test_a_unit_of_work_translates_what_the_real_database_raises(database: Database) -> None:
    async def run(statement: str) -> None:
        async with database.unit_of_work() as session:
            await session.execute(text(statement))

    with pytest.raises(HiveError) as refused:
        await run("INSERT INTO event_log (id) VALUES (2)")
    assert (refused.value.status_code, refused.value.error_code) == (409, "conflict")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await run("SELECT 1 / 0")


async def test_a_unit_of_work_translates_a_pool_that_is_used_up(database_url: str) -> None:
    # Three seconds would be long for a test.
    limit = ConnectionLimit(driver_options(database_url, application="tests"), most=1, wait_seconds=0.05)
    pool = DriverPool(limit)
    database = Database(pool)

    async with pool.connection():
        with pytest.raises(ConnectionsInUse) as refused:
            async with database.unit_of_work() as transaction:
                await transaction.execute(text("SELECT 1"))
    await pool.close()

    assert (refused.value.status_code, refused.value.error_code) == (503, "database_unavailable")


async def test_text_that_the_database_can_not_hold_is_malformed(session: AsyncSession, database: Database) -> None:
    with pytest.raises(HiveError) as refused:
        async with database.unit_of_work() as work:
            await work.execute(text("SELECT convert_from('\\xff', 'UTF8')"))

    assert (refused.value.status_code, refused.value.error_code) == (422, "invalid_text")
