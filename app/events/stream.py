"""Following the log live, in one process: PrefixedRedis says it quickly, PostgreSQL says it surely."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import structlog

from app.causes.redis import why_redis
from app.core.errors import HiveError
from app.core.redis import REDIS_FAILURES, PrefixedRedis
from app.database import Database
from app.events.history import is_restored
from app.events.published import PublishedEvent, read_log, read_published, stream_key
from app.models import EventType

BLOCK_MILLISECONDS = 1_000
BATCH = 500
RETRY_SECONDS = 0.5

log = structlog.stdlib.get_logger(__name__)


class EventStream:
    """Gives every published event once and in order, from the moment that it's followed.

    The entries of the Redis stream are numbered as the events are, so the position in one is the position in the
    other. Whatever the stream lacks (it was trimmed, flushed, or is away) is read from PostgreSQL.
    """

    def __init__(self, database: Database, redis: PrefixedRedis) -> None:
        self._database = database
        self._redis = redis
        self._key = ""
        self._is_trusted = False
        self.position = 0

    async def follow(self) -> AsyncIterator[Sequence[PublishedEvent]]:
        """The events after the position of `begin`, as they are published."""
        while True:
            events = await self._next()
            if events:
                yield events

    async def begin(self) -> int:
        """Take the present end of the log as the position, as soon as the database tells it."""
        while True:
            try:
                if await self._is_of_this_history():
                    return await self._take_position()
                log.warning("the database was restored or copied; waiting for a relay to begin a new history")
            except HiveError as error:
                log.warning("waiting for the database", reason=error.reason)
            await asyncio.sleep(RETRY_SECONDS)

    async def _is_of_this_history(self) -> bool:
        """Whether the log isn't one that a new history is about to begin in, as far as can be told."""
        try:
            self._is_trusted = not await is_restored(self._database, self._redis)
        except REDIS_FAILURES:
            # Before the stream is read, it's asked again.
            return True
        return self._is_trusted

    async def _take_position(self) -> int:
        async with self._database.unit_of_work() as transaction:
            state = await read_log(transaction)
        self._key, self.position = stream_key(self._redis, state.epoch), state.last_seq
        return self.position

    async def _next(self) -> Sequence[PublishedEvent]:
        try:
            entries, has_more = await self._read_stream()
        except (HiveError, *REDIS_FAILURES) as error:
            log.warning("reading events from the database alone", reason=_reason(error))
            self._is_trusted = False
            await asyncio.sleep(RETRY_SECONDS)
            return await self._read_log()
        if entries and entries[0].seq == self.position + 1:
            self.position = entries[-1].seq or self.position
            return entries
        events = await self._read_log()
        if has_more and not events:
            # The stream has what the log doesn't have, and would say so at once again.
            await asyncio.sleep(RETRY_SECONDS)
        return events

    async def _read_stream(self) -> tuple[list[PublishedEvent], bool]:
        """The next entries, without a gap between them, and whether there are any; none after a second without.

        A stream that was away may be back with another history, which the relay is about to end.
        """
        if not self._is_trusted and await is_restored(self._database, self._redis):
            return [], True
        self._is_trusted = True
        found: Any = await self._redis.xread({self._key: f"{self.position}-0"}, count=BATCH, block=BLOCK_MILLISECONDS)
        raw = _entries(found)
        entries: list[PublishedEvent] = []
        for entry_id, fields in raw:
            event = PublishedEvent.from_stream(entry_id, fields)
            if event is None or (entries and event.seq != (entries[-1].seq or 0) + 1):
                break
            entries.append(event)
        return entries, bool(raw)

    async def _read_log(self) -> Sequence[PublishedEvent]:
        try:
            async with self._database.unit_of_work() as transaction:
                events = await read_published(transaction, after=self.position, limit=BATCH)
                if any(event.type == EventType.LOG_RENEWED for event in events):
                    self._key = stream_key(self._redis, (await read_log(transaction)).epoch)
        except HiveError as error:
            log.warning("waiting for the database", reason=error.reason)
            await asyncio.sleep(RETRY_SECONDS)
            return ()
        if events:
            self.position = events[-1].seq or self.position
        return events


def _reason(error: Exception) -> str:
    return error.reason if isinstance(error, HiveError) else why_redis(error).sentence


def _entries(found: Any) -> list[tuple[str, dict[str, str]]]:
    """The entries of the one stream in an XREAD reply, whose shape depends on the protocol's version."""
    if not found:
        return []
    streams = list(found.values()) if isinstance(found, dict) else [entries for _, entries in found]
    entries = streams[0]
    # RESP3 wraps the list of entries in another one.
    return list(entries[0]) if entries and isinstance(entries[0], list) else list(entries)
