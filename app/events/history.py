"""One history of the log and the next: noticing that the database was restored, or is a copy.

Events that were told and are not in the database any more have numbers that will be given again. Whoever has read
them would take the new ones for old. So where the database isn't what the log was last written in, a new history
begins: with another epoch, and so far up that no number comes twice.
"""

from typing import Any
from uuid import UUID, uuid4

import structlog
from redis.asyncio import Redis
from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.permissions import SYSTEM
from app.core.redis import REDIS_FAILURES
from app.database import Database
from app.events.published import PublishedEvent, read_log, stream_key
from app.events.types import LogRenewed
from app.models import Event, EventLog

# More than any history gives numbers, and small enough for thousands of histories in the numbers that JSON holds.
STRIDE = 10**12
# The server's identity and timeline (which changes when a standby takes over or a backup is rolled forward), the
# database and the table. Each part that this server doesn't tell is left out.
ORIGIN = (
    ("has_function_privilege('pg_control_system()', 'execute')", "SELECT system_identifier FROM pg_control_system()"),
    (
        "NOT pg_is_in_recovery() AND has_function_privilege('pg_walfile_name(pg_lsn)', 'execute')",
        "SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)",
    ),
    ("true", "SELECT oid FROM pg_database WHERE datname = current_database()"),
    ("true", "SELECT 'event_log'::regclass::oid"),
)

# An origin that no server has.
SET_BACK = "set back"

log = structlog.stdlib.get_logger(__name__)


async def renew_if_restored(database: Database, redis: Redis) -> bool:
    """Begin a new history if the database is a copy or older than what was published from it; whether it was so.

    Only the active relay may ask.
    """
    if not await is_restored(database, redis):
        async with database.unit_of_work() as session:
            origin = await _origin(session)
            await session.execute(update(EventLog).where(EventLog.origin != origin).values(origin=origin))
        return False
    earlier = await _begin_history(database)
    await _forget_stream(redis, stream_key(earlier))
    return True


async def is_restored(database: Database, redis: Redis) -> bool:
    """Whether a new history has to begin. What an absent Redis would tell is not waited for."""
    async with database.unit_of_work() as session:
        state = await read_log(session)
        if state.origin not in {"", await _origin(session)}:
            return True
    newest = await _newest_in_stream(redis, stream_key(state.epoch))
    if newest is None:
        return False
    # As after a restart from an old copy of the disk: the stream has an event that the log doesn't have.
    async with database.unit_of_work() as session:
        known = await session.scalar(select(Event.id).where(Event.seq == newest.seq))
        last_seq = (await read_log(session)).last_seq
    is_another = known is not None and known != newest.envelope().id
    return (newest.seq or 0) > last_seq or is_another


async def distrust_history(session: AsyncSession) -> None:
    """Have the next active relay begin a new history, though nothing that it can see tells that it has to."""
    await session.execute(update(EventLog).values(origin=SET_BACK))


async def _origin(session: AsyncSession) -> str:
    parts = []
    for condition, statement in ORIGIN:
        is_told = await session.scalar(text(f"SELECT {condition}"))
        parts.append(str(await session.scalar(text(statement))) if is_told else "-")
    return "/".join(parts)


async def _newest_in_stream(redis: Redis, key: str) -> PublishedEvent | None:
    try:
        newest: Any = await redis.xrevrange(key, count=1)
    except REDIS_FAILURES:
        return None
    return PublishedEvent.from_stream(*newest[0]) if newest else None


async def _begin_history(database: Database) -> UUID:
    """The epoch of the one that ended."""
    async with database.unit_of_work() as session:
        state = await session.get_one(EventLog, 1, with_for_update=True, populate_existing=True)
        log.warning("the database was restored or copied, so a new history of the log begins", after=state.last_seq)
        earlier = state.epoch
        first = (state.last_seq // STRIDE + 1) * STRIDE
        session.add(_renewal(seq=first, last_seq=state.last_seq))
        state.lost = [*state.lost, [state.last_seq, first]]
        state.last_seq, state.published_seq = first, first - 1
        state.epoch, state.origin = uuid4(), await _origin(session)
    return earlier


def _renewal(*, seq: int, last_seq: int) -> Event:
    # It has its number at once, for it's written under the lock under which numbers are given.
    data = LogRenewed(last_seq=last_seq)
    return Event(
        seq=seq,
        type=data.type,
        actor_id=SYSTEM.id,
        actor_type=SYSTEM.type,
        audience=[],
        data=data.model_dump(mode="json"),
    )


async def _forget_stream(redis: Redis, key: str) -> None:
    try:
        await redis.delete(key)
    except REDIS_FAILURES as error:
        log.warning("the stream of the earlier history stays behind", reason=str(error))
