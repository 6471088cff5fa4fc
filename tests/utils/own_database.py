"""Fixtures for a module of tests that wants a database to itself. It imports all three."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.database import create_engine
from tests.utils.databases import new_database


@pytest.fixture(scope="module")
async def own_database(servers: str) -> AsyncIterator[str]:
    """A database in which no relay is at work but those of these tests."""
    async with new_database(servers, is_migrated=True) as url:
        yield url


@pytest.fixture(scope="module")
async def engine(own_database: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(own_database, application="tests", pool_size=10)
    yield engine
    await engine.dispose()


@pytest.fixture
def driver_url(own_database: str) -> str:
    return own_database
