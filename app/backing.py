"""Where PostgreSQL and Redis are: the ones that the settings name, or the embedded ones, joined or started."""

import asyncio
from dataclasses import dataclass

from app import embedded
from app.causes.addresses import HOW_TO_WRITE, fault_of_database_url, fault_of_redis_url
from app.config import ConfigurationError, Settings
from app.db.dsn import asyncpg_dsn

REDIS_SCHEMES = ("redis://", "rediss://", "unix://")


@dataclass(frozen=True, slots=True)
class Backing:
    """The addresses of the servers behind HIVE, as their providers write them."""

    database_url: str
    redis_url: str


def join_backing(settings: Settings) -> Backing:
    """The servers of these settings. Embedded ones live at least as long as this process. Blocks while they start.

    Raises:
        ConfigurationError: an address can't be read, or the database has another encoding than UTF-8.
        EmbeddedError: an embedded server doesn't start.
    """
    backing = locate_backing(settings)
    if settings.needs_embedded_postgres or settings.needs_embedded_valkey:
        embedded.join(
            settings.data_dir,
            postgres=settings.needs_embedded_postgres,
            valkey=settings.needs_embedded_valkey,
            durable=settings.hive_embedded_durable,
        )
    if not settings.needs_embedded_postgres:
        from app.db.encoding import refuse_other_encodings  # noqa: PLC0415  # The driver takes long to load.

        asyncio.run(refuse_other_encodings(backing.database_url))
    return backing


def locate_backing(settings: Settings) -> Backing:
    """Return the addresses of the servers without starting anything."""
    database = settings.database_url
    redis = settings.redis_url
    return Backing(
        database_url=_checked_database(database.get_secret_value())
        if database
        else embedded.database_url(settings.data_dir),
        redis_url=_checked_redis("REDIS_URL", redis.get_secret_value())
        if redis
        else embedded.redis_url(settings.data_dir),
    )


def _checked_database(url: str) -> str:
    try:
        asyncpg_dsn(url)
    except ValueError as error:
        raise ConfigurationError(
            f"{error}." if "DATABASE_URL" in str(error) else _unusable("DATABASE_URL", HOW_TO_WRITE)
        ) from None
    if fault := fault_of_database_url(url):
        raise ConfigurationError(_unusable("DATABASE_URL", fault))
    return url


def _checked_redis(name: str, url: str) -> str:
    if not url.startswith(REDIS_SCHEMES):
        raise ConfigurationError(f"{name} must begin with one of {', '.join(REDIS_SCHEMES)}.")
    if fault := fault_of_redis_url(url):
        raise ConfigurationError(_unusable(name, fault))
    return url


def _unusable(name: str, fault: str) -> str:
    return f"{name} can't be used: {fault}."
