"""Databases of their own, for tests that need more than those of their process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import asyncpg

from app import embedded
from app.migrate import migrate_database

TEMPLATE = "migrated_template"
# Any number that nothing else on the throw-away server locks.
TEMPLATE_LOCK = 4_711


async def run_sql(url: str, statement: str) -> object:
    """The first value of the answer."""
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


@asynccontextmanager
async def new_database(servers: str, *, is_migrated: bool = False) -> AsyncIterator[str]:
    """Make a database on the throw-away servers and yield its address; drop it at the end.

    A migrated one is a copy of a database that the migrations have built once for all tests.
    """
    server = embedded.database_url(servers)
    name = f"test_{uuid4().hex}"
    url = _address(server, name)
    if is_migrated:
        await run_sql(server, f"CREATE DATABASE {name} TEMPLATE {await _migrated_template(server)}")
        # Otherwise the copies would publish to one and the same stream.
        await run_sql(url, "UPDATE event_log SET epoch = gen_random_uuid()")
    else:
        await run_sql(server, f"CREATE DATABASE {name}")
    yield url
    await run_sql(server, f"DROP DATABASE {name} WITH (FORCE)")


async def _migrated_template(server: str) -> str:
    """The name of the migrated database that is copied. The first test process that needs it builds it."""
    connection = await asyncpg.connect(server)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", TEMPLATE_LOCK)
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", TEMPLATE):
            # It gets its name when it's whole: a failure on the way leaves nothing that looks finished.
            unfinished = f"test_{uuid4().hex}"
            await connection.execute(f"CREATE DATABASE {unfinished}")
            await asyncio.to_thread(migrate_database, _address(server, unfinished))
            await connection.execute(f"ALTER DATABASE {unfinished} RENAME TO {TEMPLATE}")
    finally:
        await connection.close()
    return TEMPLATE


def _address(server: str, name: str) -> str:
    return server.replace("/hive?", f"/{name}?")
