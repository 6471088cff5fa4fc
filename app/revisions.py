"""Which revision is the newest, and whether a database is at it.

Alembic knows as well, but takes long to load and ten megabytes in each process that does.
"""

import re
from functools import cache
from pathlib import Path

import asyncpg

from app.db.dsn import asyncpg_dsn

VERSIONS = Path(__file__).resolve().parent.parent / "migrations" / "versions"
_REVISION = re.compile(r"^revision: str = [\"'](\w+)[\"']", re.MULTILINE)
_REVISION_BEFORE = re.compile(r"^down_revision: str \| None = [\"'](\w+)[\"']", re.MULTILINE)


@cache
def newest_revision() -> str:
    """The one that no other comes after."""
    text = "\n".join(path.read_text() for path in VERSIONS.glob("*.py"))
    return ", ".join(sorted(set(_REVISION.findall(text)) - set(_REVISION_BEFORE.findall(text))))


async def is_at_newest_revision(database_url: str) -> bool:
    """Whether there is nothing to migrate. Not so too when it can't be found out: migrating will tell the reason."""
    try:
        connection = await asyncpg.connect(asyncpg_dsn(database_url), timeout=5)
        try:
            current = await connection.fetchval("SELECT version_num FROM alembic_version", timeout=5)
        finally:
            await connection.close(timeout=5)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, ValueError):
        return False
    return bool(current == newest_revision())
