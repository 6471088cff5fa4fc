"""Databases of their own, for tests that need more than the one of their process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import asyncpg

from app import embedded
from app.migrate import migrate_database


async def run_sql(url: str, statement: str) -> object:
    """The first value of the answer."""
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


@asynccontextmanager
async def new_database(servers: str, *, is_migrated: bool = False) -> AsyncIterator[str]:
    """The address of an empty database on the throw-away servers; it goes at the end."""
    server = embedded.database_url(servers)
    name = f"test_{uuid4().hex}"
    await run_sql(server, f"CREATE DATABASE {name}")
    url = server.replace("/hive?", f"/{name}?")
    if is_migrated:
        await asyncio.to_thread(migrate_database, url)
    yield url
    await run_sql(server, f"DROP DATABASE {name} WITH (FORCE)")
