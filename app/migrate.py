"""Bringing a database to the newest revision."""

import asyncio
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy.exc import SQLAlchemyError

from app.backing import join_backing
from app.causes.postgres import is_unmigrated, known_why_postgres
from app.config import Settings
from app.db.dsn import asyncpg_dsn
from app.server_checks import why_database_unusable

DATABASE_FAILURES = (
    SQLAlchemyError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)
ROOT = Path(__file__).resolve().parent.parent


class MigrationError(Exception):
    """The database could not be migrated; the message is one sentence."""


def alembic_config(database_url: str | None = None) -> Config:
    """The project's Alembic configuration; without a URL it finds the database of the settings."""
    config = Config(ROOT / "alembic.ini")
    config.attributes["database_url"] = database_url
    return config


def migrate(settings: Settings) -> None:
    """Run every revision that the database of these settings lacks.

    Raises:
        MigrationError: with nothing of the failed revision left behind.
    """
    migrate_database(join_backing(settings).database_url)


def migrate_database(database_url: str) -> None:
    """Raises `MigrationError`, with nothing of the failed revision left behind."""
    cause = asyncio.run(why_database_unusable(database_url))
    if cause is not None:
        raise MigrationError(f"The database can't be migrated: {cause.sentence}")
    try:
        command.upgrade(alembic_config(database_url), "head")
    except (*DATABASE_FAILURES, CommandError) as error:
        raise MigrationError(f"The database can't be migrated: {_reason(error)}") from error


async def create_missing_database(database_url: str) -> None:
    """Make the database that the URL names, unless the server has it.

    Raises:
        MigrationError: the server can't be reached, or this user may not make databases.
    """
    try:
        try:
            await _close(await asyncpg.connect(asyncpg_dsn(database_url), timeout=5))
        except asyncpg.InvalidCatalogNameError:
            parts = urlsplit(asyncpg_dsn(database_url))
            name = unquote(parts.path.lstrip("/")).replace('"', '""')
            # Every server has this one to connect to. The encoding of a new database is else that of `template1`.
            server = await asyncpg.connect(urlunsplit(parts._replace(path="/postgres")), timeout=5)
            await server.execute(f"CREATE DATABASE \"{name}\" ENCODING 'UTF8' TEMPLATE template0")
            await _close(server)
    except DATABASE_FAILURES as error:
        raise MigrationError(f"The database can't be made: {_reason(error)}") from error


async def _close(connection: asyncpg.Connection) -> None:
    await connection.close(timeout=5)


def _reason(error: Exception) -> str:
    # A table that a revision misses is not missing because nobody has migrated.
    cause = None if is_unmigrated(error) else known_why_postgres(error)
    return cause.sentence if cause else str(error).strip().partition("\n")[0]
