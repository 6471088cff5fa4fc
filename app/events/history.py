"""One history of the log and the next: noticing that the database was restored, or is a copy.

Events that were told and are not in the database any more have numbers that will be given again. Readers who have read
them would take the new ones for old. So where the database isn't what the log was last written in, a new history
begins: with another epoch, and so far up that no number comes twice.
"""

from typing import Any
from uuid import UUID, uuid4

import structlog
from sqlalchemy import func, select, text, update

from app.core.permissions import SYSTEM
from app.core.redis import REDIS_FAILURES, PrefixedRedis
from app.database import Database
from app.db.transaction import Transaction
from app.events.published import read_log, seq_of, stream_key
from app.events.types import LogRenewed
from app.models import Event, EventLog

# A history goes on from the microsecond of its beginning, and at least so much above all numbers before it. No
# history gives a million numbers a second, and JSON holds such numbers exactly until the year 2255.
STRIDE = 10**9
PAGE = 500
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


async def renew_if_restored(database: Database, redis: PrefixedRedis) -> bool:
    """Begin a new history if the database is a copy or older than what was published from it; whether it was so.

    Only the active relay may ask. What an absent Redis would tell, it tells when it's published to again.
    """
    try:
        is_over = await is_restored(database, redis)
        last_common = await _last_common(database, redis) if is_over else 0
    except REDIS_FAILURES:
        return False
    if not is_over:
        async with database.unit_of_work() as transaction:
            origin = await _origin(transaction)
            await transaction.execute(update(EventLog).where(EventLog.origin != origin).values(origin=origin))
        return False
    earlier = await _begin_history(database, last_common=last_common)
    await _forget_stream(redis, stream_key(redis, earlier))
    return True


async def is_restored(database: Database, redis: PrefixedRedis) -> bool:
    """Whether a new history has to begin.

    Raises:
        HiveError, REDIS_FAILURES: one of the two can't tell.
    """
    async with database.unit_of_work() as transaction:
        state = await read_log(transaction)
        if state.origin not in {"", await _origin(transaction)}:
            return True
    # As after a restart from an old copy of the disk: the stream has an event that the log doesn't have.
    newest = await _entries_until(redis, stream_key(redis, state.epoch), count=1)
    return bool(newest) and not await _has(database, *newest[0])


async def _last_common(database: Database, redis: PrefixedRedis) -> int:
    """The last number that means the same event in the log as in what was published."""
    async with database.unit_of_work() as transaction:
        state = await read_log(transaction)
    key, end = stream_key(redis, state.epoch), "+"
    while entries := await _entries_until(redis, key, end=end, count=PAGE):
        for seq, event_id in entries:
            if await _has(database, seq, event_id):
                return seq
        end = f"({entries[-1][0]}-0"
        if entries[-1][0] <= state.purged_seq:
            break
    return state.last_seq


async def _entries_until(redis: PrefixedRedis, key: str, *, end: str = "+", count: int) -> list[tuple[int, str]]:
    """Numbers and events' ids of the stream, newest first."""
    found: Any = await redis.xrevrange(key, max=end, count=count)
    return [(seq_of(entry_id), fields.get("id", "")) for entry_id, fields in found]


async def _has(database: Database, seq: int, event_id: str) -> bool:
    """Whether the log has this event under this number, or is past having it."""
    async with database.unit_of_work() as transaction:
        known = await transaction.scalar(select(Event.id).where(Event.seq == seq))
        return str(known) == event_id or seq <= (await read_log(transaction)).purged_seq


async def distrust_history(transaction: Transaction) -> None:
    """Make the next active relay begin a new history, though nothing that it can see tells that it has to."""
    await transaction.execute(update(EventLog).values(origin=SET_BACK))


async def _origin(transaction: Transaction) -> str:
    parts = []
    for condition, statement in ORIGIN:
        is_told = await transaction.scalar(text(f"SELECT {condition}"))
        parts.append(str(await transaction.scalar(text(statement))) if is_told else "-")
    return "/".join(parts)


async def _begin_history(database: Database, *, last_common: int) -> UUID:
    """The epoch of the one that ended."""
    async with database.unit_of_work() as transaction:
        state = await transaction.get_locked(EventLog, 1)
        log.warning("the database was restored or copied, so a new history of the log begins", after=state.last_seq)
        earlier = state.epoch
        # By the clock, so that two that are restored from the same backup go on with different numbers.
        now = await transaction.scalar(select(func.extract("epoch", func.clock_timestamp())))
        first = max(int(float(now or 0) * 1_000_000), state.last_seq + STRIDE)
        transaction.add(_renewal(seq=first, last_seq=state.last_seq))
        state.lost = [*state.lost, [min(last_common, state.last_seq), first]]
        state.last_seq, state.published_seq = first, first - 1
        state.epoch, state.origin = uuid4(), await _origin(transaction)
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


async def _forget_stream(redis: PrefixedRedis, key: str) -> None:
    try:
        await redis.delete(key)
    except REDIS_FAILURES as error:
        log.warning("the stream of the earlier history stays behind", reason=str(error))
