"""Trying the servers before anything is built on them.

What may pass by itself is waited for, as it is later. What an address, a right or a version is to blame for is told at
once: a part that waited for it would wait for ever.
"""

import asyncio
from collections.abc import Sequence

import asyncpg
import structlog

from app.backing import REDIS_SCHEMES, Backing
from app.causes.addresses import fault_of_redis_url
from app.causes.cause import Cause
from app.causes.network import Server
from app.causes.postgres import OLDEST, POOLED_BY_TRANSACTION, TOO_OLD, why_postgres
from app.causes.redis import BROKER, why_redis
from app.config import ConfigurationError, Settings
from app.core.redis import connect_redis
from app.database import driver_options
from app.db.demand import Demand, find_demand
from app.disk import warn_of_full_disk
from app.redis_rights import why_lacking

CHECK_SECONDS = 5.0
# Of two connections that a pooler keeps apart by transaction, each gets the other's in one of these turns.
TURNS = 3

log = structlog.stdlib.get_logger(__name__)


async def refuse_unusable(settings: Settings, backing: Backing, *, wanted: int = 0) -> None:
    """Say why a server can't be used, in the log if that may pass.

    `wanted` is how many connections to PostgreSQL the process that starts may have. Should there not be enough for all,
    the log says so.

    Raises:
        ConfigurationError: it will not pass by itself; the message is the cause.
    """
    for cause in await _causes(settings, backing):
        if not cause.may_pass:
            raise ConfigurationError(cause.sentence)
        log.warning("a server can't be used yet", reason=cause.sentence)
    if warning := warn_of_full_disk(settings.data_dir):
        log.warning("there is little room left", reason=warning)
    demand = await connection_demand(backing.database_url, further=wanted)
    if demand is not None and not demand.is_met:
        log.warning("PostgreSQL may have too few connections", reason=demand.sentence)


async def connection_demand(url: str, *, further: int = 0) -> Demand | None:
    """Whether the connections suffice; None when PostgreSQL doesn't tell."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            connection = await asyncpg.connect(**driver_options(url, application="check"))
            try:
                return await find_demand(connection, further=further)
            finally:
                connection.terminate()
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError):
        # Why it can't be asked is said elsewhere.
        return None


async def _causes(settings: Settings, backing: Backing) -> Sequence[Cause]:
    checks = [why_database_unusable(backing.database_url), why_redis_unusable(settings, backing.redis_url)]
    if settings.celery_broker_url is not None:
        checks.append(why_broker_unusable(settings.celery_broker_url.get_secret_value(), BROKER))
    return [cause for cause in await asyncio.gather(*checks) if cause]


async def why_database_unusable(url: str) -> Cause | None:
    """None when HIVE can work on the connections that this address gives."""
    options = driver_options(url, application="check")
    connections: list[asyncpg.Connection] = []
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            connections.append(await asyncpg.connect(**options))
            if connections[0].get_server_version().major < OLDEST:
                return TOO_OLD
            if await _is_pooled(connections[0]):
                connections.append(await asyncpg.connect(**options))
                return POOLED_BY_TRANSACTION if await _share_a_session(*connections) else None
    except Exception as error:  # noqa: BLE001  # Whatever fails, its cause is what was asked for.
        return why_postgres(error)
    finally:
        for connection in connections:
            connection.terminate()
    return None


async def _is_pooled(connection: asyncpg.Connection) -> bool:
    """Whether a pooler has answered, and not the PostgreSQL process that does the work."""
    return bool(await _session_of(connection) != connection.get_server_pid())


async def _share_a_session(one: asyncpg.Connection, other: asyncpg.Connection) -> bool:
    """Whether two connections that are open at once get the same session of PostgreSQL, or one of them gets several."""
    ours, theirs = set(), set()
    for _ in range(TURNS):
        ours.add(await _session_of(one))
        theirs.add(await _session_of(other))
    return bool(ours & theirs) or len(ours) > 1 or len(theirs) > 1


async def _session_of(connection: asyncpg.Connection) -> int:
    [row] = await connection.fetch("SELECT pg_backend_pid()")
    return int(row[0])


async def why_redis_unusable(settings: Settings, url: str) -> Cause | None:
    """None when Redis answers at this address, and lets the user in it do what HIVE does."""
    redis = connect_redis(url, prefix=settings.redis_prefix)
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await redis.ping()
            lacking = await why_lacking(redis)
    except Exception as error:  # noqa: BLE001  # As above.
        return why_redis(error)
    finally:
        await redis.aclose()
    return None if lacking is None else why_redis(lacking)


async def why_broker_unusable(url: str, server: Server) -> Cause | None:
    """None when an address of Celery's leads to a Redis that answers, or is of a kind that Celery alone knows."""
    if not url.startswith(REDIS_SCHEMES) or fault_of_redis_url(url):
        return None
    redis = connect_redis(url)
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await redis.ping()
    except Exception as error:  # noqa: BLE001  # As above.
        return why_redis(error, server)
    finally:
        await redis.aclose()
    return None
