"""Carrying committed rows on: events get their numbers and go to the stream, jobs go to Celery.

One relay is active, others stand by. It may be killed between any two of its steps: the next one finds in the rows
how far it came, and does the step again; readers drop what they have, and a job that comes twice works once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import structlog
from redis.asyncio import Redis
from redis.exceptions import ResponseError
from sqlalchemy import bindparam, func, select, update

from app.core.errors import HiveError
from app.core.redis import REDIS_FAILURES
from app.database import Database
from app.events.due_jobs import DueJob, find_due_jobs, mark_sent
from app.events.published import PublishedEvent, read_log, read_published, stream_key
from app.events.wakeup import WAKE_CHANNEL
from app.models import Event, EventLog

RELAY_LOCK = 4_183_002
BATCH = 500
# Longer than a process is away when it reconnects; whoever needs older events reads them from PostgreSQL.
STREAM_LENGTH = 10_000
POLL_SECONDS = 0.5
STANDBY_SECONDS = 1.0

SendJobs = Callable[[Sequence[DueJob]], Awaitable[None]]

log = structlog.stdlib.get_logger(__name__)


class Relay:
    """`send_jobs` hands jobs to their carrier; it raises when the carrier is away."""

    def __init__(self, database: Database, redis: Redis, send_jobs: SendJobs) -> None:
        self._database = database
        self._redis = redis
        self._send_jobs = send_jobs
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Relay for ever, when it's this one's turn."""
        listening = asyncio.create_task(self._listen())
        try:
            while True:
                await self._stand_by_or_lead()
                await asyncio.sleep(STANDBY_SECONDS)
        finally:
            listening.cancel()

    async def _stand_by_or_lead(self) -> None:
        try:
            async with self._database.exclusively(RELAY_LOCK) as ours:
                if ours is not None:
                    log.info("this relay is the active one")
                    await self._lead(ours)
        except HiveError as error:
            log.warning("the relay waits for the database", reason=error.detail)

    async def _lead(self, database: Database) -> None:
        while True:
            self._wake.clear()
            if not await self.relay_once(database):
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), POLL_SECONDS)

    async def relay_once(self, database: Database) -> bool:
        """Carry on one batch of each kind; whether there may be more at once."""
        numbered = await number_events(database, limit=BATCH)
        try:
            published = await publish_events(database, self._redis, limit=BATCH)
            sent = await self._send_due_jobs(database)
        except REDIS_FAILURES as error:
            log.warning("the relay waits for Redis", reason=str(error))
            return numbered == BATCH
        return BATCH in (numbered, published, sent)

    async def _send_due_jobs(self, database: Database) -> int:
        async with database.unit_of_work() as session:
            due = await find_due_jobs(session, limit=BATCH)
        if due:
            # Sent first and marked afterwards: a crash in between sends them once more, the other way round never.
            await self._send_jobs(due)
            async with database.unit_of_work() as session:
                await mark_sent(session, due)
        return len(due)

    async def _listen(self) -> None:
        while True:
            try:
                async with self._redis.pubsub() as subscription:
                    await subscription.subscribe(WAKE_CHANNEL)
                    while True:
                        if await subscription.get_message(ignore_subscribe_messages=True, timeout=1.0):
                            self._wake.set()
            except REDIS_FAILURES:
                await asyncio.sleep(STANDBY_SECONDS)


async def number_events(database: Database, *, limit: int) -> int:
    """Give the next numbers to rows that have none, in the order in which they were written; how many there were.

    Only what is committed is seen here, so a slow transaction's event gets its number when it appears, and no
    reader can have passed it. The row of the log is locked first: should two relays ever be at it, the second one
    looks for rows only after the first has committed.
    """
    waiting = select(Event.id).where(Event.seq.is_(None)).order_by(Event.position).limit(limit)
    async with database.unit_of_work() as session:
        if await session.scalar(waiting.limit(1)) is None:
            return 0
        last_seq = await session.scalar(select(EventLog.last_seq).with_for_update()) or 0
        ids = (await session.scalars(waiting)).all()
        numbers = [{"row": row, "number": last_seq + n} for n, row in enumerate(ids, start=1)]
        connection = await session.connection()
        numbering = update(Event).where(Event.id == bindparam("row")).values(seq=bindparam("number"))
        if numbers:
            await connection.execute(numbering, numbers)
            await session.execute(update(EventLog).values(last_seq=last_seq + len(ids)))
    return len(ids)


async def publish_events(database: Database, redis: Redis, *, limit: int) -> int:
    """Put numbered events into the stream and note how far it came; how many there were."""
    async with database.unit_of_work() as session:
        state = await read_log(session)
        events = await read_published(session, after=state.published_seq, limit=limit)
    if events:
        await _add_to_stream(redis, stream_key(state.epoch), events)
        async with database.unit_of_work() as session:
            reached = func.greatest(EventLog.published_seq, events[-1].seq)
            await session.execute(update(EventLog).values(published_seq=reached))
    return len(events)


async def _add_to_stream(redis: Redis, key: str, events: Sequence[PublishedEvent]) -> None:
    pipeline = redis.pipeline(transaction=False)
    for event in events:
        pipeline.xadd(key, event.to_stream(), id=f"{event.seq}-0", maxlen=STREAM_LENGTH, approximate=True)
    for outcome in await pipeline.execute(raise_on_error=False):
        # The stream takes rising numbers only, so it refuses what it has from before a crash.
        is_repeated = isinstance(outcome, ResponseError) and "equal or smaller" in str(outcome)
        if isinstance(outcome, Exception) and not is_repeated:
            raise outcome
