"""Carrying committed rows on: events get their numbers and go to the stream, jobs go to Celery.

One relay is active, others stand by. It may be killed between any two of its steps: the next one finds in the rows
how far it came, and does the step again; readers drop what they have, and a job that comes twice works once.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial

import structlog
from redis.exceptions import ResponseError
from sqlalchemy import ARRAY, BigInteger, Uuid, bindparam, column, func, select, update

from app.causes.redis import BROKER, why_redis
from app.core.errors import HiveError
from app.core.redis import REDIS_FAILURES, PrefixedRedis
from app.database import Database
from app.db.statements import keep
from app.events.due_jobs import DueJob, QueueName, may_have_due_jobs, put_back, take_due_jobs
from app.events.history import is_restored, renew_if_restored
from app.events.published import PublishedEvent, stream_key
from app.events.queue_length import CountQueued, QueueLength
from app.events.sizes import first_bytes_of
from app.events.wakeup import hear_wake_ups
from app.limits.answers import MAX_PAGE_BYTES
from app.models import Event, EventLog

RELAY_LOCK = 4_183_002
BATCH = 500
# Further jobs wait in their rows, where no broker loses them and none waits twice.
MOST_QUEUED_JOBS = 500
# Longer than a process is away when it reconnects; older events are read from PostgreSQL.
STREAM_LENGTH = 10_000
POLL_SECONDS = 0.5
STANDBY_SECONDS = 1.0


class HistoryEnded(Exception):
    """The stream knows of another history, which Redis could not tell when this relay began to lead."""


SendJobs = Callable[[Sequence[DueJob]], Awaitable[None]]

log = structlog.stdlib.get_logger(__name__)


class Relay:
    """`send_jobs` hands jobs to their carrier, and `count_queued` says how many a queue of it has that no worker
    took yet.

    Both raise when the carrier is away.
    """

    def __init__(
        self, database: Database, redis: PrefixedRedis, send_jobs: SendJobs, count_queued: CountQueued
    ) -> None:
        self._database = database
        self._redis = redis
        self._send_jobs = send_jobs
        self._lengths = {queue: QueueLength(queue, count_queued, holds_seconds=POLL_SECONDS) for queue in QueueName}
        self._events_wanted = asyncio.Event()
        self._jobs_wanted = {queue: asyncio.Event() for queue in QueueName}

    async def run(self) -> None:
        """Relay for ever, when it's this one's turn."""
        async with asyncio.TaskGroup() as group:
            group.create_task(hear_wake_ups(self._redis, self._wake))
            while True:
                await self._stand_by_or_lead()
                await asyncio.sleep(STANDBY_SECONDS)

    async def _stand_by_or_lead(self) -> None:
        try:
            async with self._database.exclusively(RELAY_LOCK) as ours:
                if ours is not None:
                    log.info("this relay is the active one")
                    await self._lead(ours)
        except* HistoryEnded:
            log.warning("the stream has another history than the log")
        except* HiveError as errors:
            reasons = {error.reason for error in _leaves(errors)}
            log.warning("the relay waits for the database", reason="; ".join(reasons))

    async def _lead(self, database: Database) -> None:
        await renew_if_restored(database, self._redis)
        # Side by side, so that a broker that hangs holds up no event. The jobs ask first, for they are quick at it, and
        # have the longer way to go.
        async with asyncio.TaskGroup() as group:
            for queue, wanted in self._jobs_wanted.items():
                group.create_task(self._repeat(partial(self.relay_jobs, queue), wanted))
            group.create_task(self._repeat(lambda: self.relay_events(database), self._events_wanted))

    async def _repeat(self, relay_batch: Callable[[], Awaitable[bool]], wanted: asyncio.Event) -> None:
        while True:
            wanted.clear()
            if not await relay_batch():
                # Not `wait_for`, which can lose a cancellation that comes together with the wake-up.
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):
                        await wanted.wait()

    async def relay_events(self, database: Database) -> bool:
        """Number and publish one batch of events; whether there may be more at once."""
        numbered = await number_events(database, limit=BATCH)
        try:
            has_more = await publish_events(database, self._redis, limit=BATCH)
        except REDIS_FAILURES as error:
            log.warning("events wait for Redis", reason=why_redis(error).sentence)
            return numbered == BATCH
        return has_more or numbered == BATCH

    async def relay_jobs(self, queue: QueueName = QueueName.MAIN) -> bool:
        """Send one batch of a queue's jobs; whether there may be more at once."""
        due: Sequence[DueJob] = ()
        try:
            due = await self._take_jobs(queue)
            if due:
                await self._send_jobs(due)
        except REDIS_FAILURES as error:
            # Before more are taken, the broker has to say that it's there again.
            self._lengths[queue].forget()
            async with self._database.unit_of_work() as transaction:
                # Nothing waits for a broker that is away while nothing is to be sent.
                if due or await may_have_due_jobs(transaction, queue):
                    log.warning("jobs wait for the broker", reason=why_redis(error, BROKER).sentence)
                if due:
                    await put_back(transaction, due)
            return False
        return len(due) >= BATCH

    async def _take_jobs(self, queue: QueueName) -> Sequence[DueJob]:
        """As many due jobs as the queue has room for."""
        length = self._lengths[queue]
        queued = length.at_most()
        is_known_empty = False
        if queued is None or queued >= MOST_QUEUED_JOBS:
            queued = await length.count()
            is_known_empty = queued == 0
        room = min(MOST_QUEUED_JOBS - queued, BATCH)
        if room <= 0:
            return ()
        async with self._database.unit_of_work(is_one_statement=True) as transaction:
            due = await take_due_jobs(transaction, limit=room, queue=queue, is_queue_empty=is_known_empty)
        length.note_sent(len(due))
        if log.isEnabledFor(logging.DEBUG):
            log.debug("sending jobs", requests={str(job.id): job.request_id for job in due})
        return due

    def _wake(self) -> None:
        for wanted in self._jobs_wanted.values():
            wanted.set()
        self._events_wanted.set()


def _leaves(group: BaseExceptionGroup[HiveError]) -> Iterator[HiveError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


_WAITING = keep(
    select(Event.id, Event.request_id)
    .where(Event.seq.is_(None))
    .order_by(Event.position)
    .limit(bindparam("most", type_=BigInteger()))
)
_LOCK_LOG = keep(select(EventLog.last_seq).where(_WAITING.exists()).with_for_update())
_NUMBERED = (
    func.unnest(bindparam("rows", type_=ARRAY(Uuid())), bindparam("numbers", type_=ARRAY(BigInteger())))
    .table_valued(column("row", Uuid()), column("number", BigInteger()))
    .render_derived(name="numbered")
)
_NUMBER = keep(update(Event).where(Event.id == _NUMBERED.c.row).values(seq=_NUMBERED.c.number))
_COUNT_ON = keep(update(EventLog).values(last_seq=bindparam("reached")))

_EPOCH, _LAST_SEQ, _PUBLISHED_SEQ = (
    select(part).scalar_subquery() for part in (EventLog.epoch, EventLog.last_seq, EventLog.published_seq)
)
_NEXT = first_bytes_of(
    select(Event).where(Event.seq > _PUBLISHED_SEQ).order_by(Event.seq).limit(bindparam("most", type_=BigInteger()))
)
# Large events are read few at a time: the relay has all of a batch in its memory.
_REACH = select(func.max(_NEXT.event.seq)).where(_NEXT.before < bindparam("most_bytes", type_=BigInteger()))
_UNPUBLISHED = keep(
    select(_EPOCH, _LAST_SEQ, Event)
    .where(Event.seq > _PUBLISHED_SEQ, Event.seq <= _REACH.scalar_subquery())
    .order_by(Event.seq)
)
_NOTE_PUBLISHED = keep(
    update(EventLog).values(
        published_seq=func.greatest(EventLog.published_seq, bindparam("reached", type_=BigInteger()))
    )
)


async def number_events(database: Database, *, limit: int) -> int:
    """Give the next numbers to rows that have none, in the order in which they were written; how many there were.

    Only what is committed is seen here, so a slow transaction's event gets its number when it appears, and no
    reader can have passed it. The row of the log is locked first: should two relays ever be at it, the second one
    looks for rows only after the first has committed.
    """
    async with database.unit_of_work() as transaction:
        last_seq = await transaction.scalar(_LOCK_LOG, {"most": limit})
        if last_seq is None:
            return 0
        rows = dict(await transaction.execute(_WAITING, {"most": limit}))
        reached = last_seq + len(rows)
        numbers = range(last_seq + 1, reached + 1)
        if rows:
            await transaction.execute(_NUMBER, {"rows": list(rows), "numbers": list(numbers)})
            await transaction.execute(_COUNT_ON, {"reached": reached})
    if log.isEnabledFor(logging.DEBUG):
        log.debug("numbered events", requests=dict(zip(numbers, rows.values(), strict=True)))
    return len(rows)


async def publish_events(
    database: Database, redis: PrefixedRedis, *, limit: int, most_bytes: int = MAX_PAGE_BYTES
) -> bool:
    """Put numbered events into the stream and note how far it came; whether there were more.

    One is put in however large it is.
    """
    async with database.unit_of_work(is_one_statement=True) as transaction:
        rows = await transaction.execute(_UNPUBLISHED, {"most": limit, "most_bytes": most_bytes})
    if not rows:
        return False
    epoch, last_seq, last = rows[-1]
    events = [PublishedEvent.of(event) for *_, event in rows]
    is_repeated = await _add_to_stream(redis, stream_key(redis, epoch), events)
    if is_repeated and await is_restored(database, redis):
        raise HistoryEnded
    async with database.unit_of_work(is_one_statement=True) as transaction:
        await transaction.execute(_NOTE_PUBLISHED, {"reached": last.seq})
    return bool(last.seq < last_seq)


async def _add_to_stream(redis: PrefixedRedis, key: str, events: Sequence[PublishedEvent]) -> bool:
    """Whether the stream had some of them already, or others under their numbers."""
    pipeline = redis.pipeline(transaction=False)
    for event in events:
        pipeline.xadd(key, event.to_stream(), id=f"{event.seq}-0", maxlen=STREAM_LENGTH, approximate=True)
    outcomes = await pipeline.execute(raise_on_error=False)
    # The stream takes rising numbers only, so it refuses what it has from before a crash.
    faults = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    for fault in faults:
        if not isinstance(fault, ResponseError) or "equal or smaller" not in str(fault):
            raise fault
    return bool(faults)
