"""How Alembic reaches the database: asynchronously, one migrating process at a time, never waiting long for a lock."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from alembic.util import CommandError
from sqlalchemy import Connection, text

from app.backing import join_backing
from app.causes.postgres import is_unmigrated, known_why_postgres
from app.config import ConfigurationError, load_settings
from app.core.encoding import require_utf8
from app.core.logging import configure_logging
from app.database import create_engine
from app.embedded import EmbeddedError
from app.migrate import DATABASE_FAILURES
from app.models import Base
from app.models.base import Vocabulary
from app.server_checks import why_database_unusable

# Any number will do, as long as it's the same in every process and nothing else uses it.
MIGRATION_LOCK = 4_183_001
LONGEST_TURN_SECONDS = 3_600


def render_item(type_: str, item: object, _context: AutogenContext) -> str | Literal[False]:
    # A revision must not change when the code does, so it says what the column is in the database.
    if type_ == "type" and isinstance(item, Vocabulary):
        return "sa.Text()"
    return False


def wait_for_turn(connection: Connection) -> None:
    """Wait while another process migrates, which may take minutes.

    The lock is asked for again and again: a statement that waits for it would be one that `CREATE INDEX CONCURRENTLY`
    in the other process waits for.
    """
    end = time.monotonic() + LONGEST_TURN_SECONDS
    while not connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": MIGRATION_LOCK}).scalar_one():
        connection.commit()
        if time.monotonic() > end:
            raise CommandError("another process has been migrating the database for too long")
        time.sleep(0.2)
    connection.commit()


def run_migrations(connection: Connection) -> None:
    with one_sentence():
        require_utf8(str(connection.scalar(text("SHOW server_encoding"))))
    # A table lock that isn't to be had in seconds would queue all the readers behind it.
    connection.execute(text("SET statement_timeout = 0"))
    connection.execute(text("SET lock_timeout = '5s'"))
    wait_for_turn(connection)
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_item=render_item,
        # Each revision is committed by itself, so that one's locks aren't held while the next one looks through a table.
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


async def run_async_migrations(url: str) -> None:
    engine = create_engine(url, application="migrate", answer_seconds=None)
    with one_sentence():
        async with engine.connect() as connection:
            await connection.run_sync(run_migrations)
    await engine.dispose()


@contextmanager
def one_sentence() -> Iterator[None]:
    """Turn what a user can mend into an error that Alembic tells without a stack."""
    try:
        yield
    except (ConfigurationError, EmbeddedError) as error:
        raise CommandError(str(error)) from error
    except DATABASE_FAILURES as error:
        # A table that a revision misses is not missing because nobody has migrated.
        cause = None if is_unmigrated(error) else known_why_postgres(error)
        if cause is None:
            raise
        raise CommandError(cause.sentence) from error


def run_migrations_offline() -> None:
    context.configure(
        dialect_name="postgresql", target_metadata=Base.metadata, literal_binds=True, render_item=render_item
    )
    with context.begin_transaction():
        context.run_migrations()


def database_url() -> str:
    given: str | None = context.config.attributes.get("database_url")
    if given is not None:
        return given
    with one_sentence():
        settings = load_settings()
        configure_logging(settings, "migrate")
        url = join_backing(settings).database_url
    # `hive migrate`, which gives the address, has done it before.
    if (cause := asyncio.run(why_database_unusable(url))) is not None:
        raise CommandError(cause.sentence)
    return url


if context.is_offline_mode():
    run_migrations_offline()
else:
    asyncio.run(run_async_migrations(database_url()))
