"""Presence: a user with a socket in any process is online.

Each process keeps its users in one sorted set in Redis, each with the time at which the entry runs out, and renews
them. It looks at the set now and then, and tells its own sockets what has changed. A process that was killed renews
nothing, so its users are offline when their entries have run out. Requests are answered from memory.
"""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from uuid import UUID, uuid4

import structlog
from uuid_utils.compat import uuid7

from app.causes.redis import why_redis
from app.core.outages import Outage
from app.core.permissions import ActorType
from app.core.redis import REDIS_FAILURES, PrefixedRedis
from app.events.published import PublishedEvent
from app.events.types import UserOffline, UserOnline
from app.schemas.event import Envelope, EventActor
from app.websockets.connection_manager import ConnectionManager

KEY = "presence"
LIFETIME_SECONDS = 40.0
LOOK_SECONDS = 2.0
# A crowd comes in many moments, and to tell each of them to all who are there is what a crowd costs.
GATHERING_SECONDS = 0.05
TOLD_AT_ONCE = 50
# At the end of an agent's entry.
AGENTS_MARK = "+agent"

log = structlog.stdlib.get_logger(__name__)


class Presence:
    def __init__(self, redis: PrefixedRedis, connections: ConnectionManager) -> None:
        self._redis = redis
        self._key = redis.key(KEY)
        self._connections = connections
        self._process = str(uuid4())
        self._elsewhere: Mapping[UUID, ActorType] = {}
        self._entered: frozenset[str] = frozenset()
        self._told: dict[UUID, ActorType] = {}
        self._changed = asyncio.Event()
        self._gathering: asyncio.TimerHandle | None = None
        self._looked_at = time.monotonic()
        self._outage = Outage(log, "exchanging presence through Redis")

    def online(self) -> frozenset[UUID]:
        return self._connections.users() | self._elsewhere.keys()

    def sockets_changed(self) -> None:
        """A socket came or went, which others are told in a moment, together with what else comes and goes in it."""
        if self._gathering is None:
            self._gathering = asyncio.get_running_loop().call_later(GATHERING_SECONDS, self._tell_gathered)

    async def run(self) -> None:
        while True:
            try:
                await self._exchange()
            except REDIS_FAILURES as error:
                self._outage.goes_on(why_redis(error).sentence)
                self._forget_stale()
            else:
                self._outage.is_over()
            self._tell_changes()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._changed.wait()
            self._changed.clear()

    def _tell_gathered(self) -> None:
        self._gathering = None
        self._tell_changes()
        self._changed.set()

    async def leave(self) -> None:
        """Take this process's users out, for it ends."""
        with suppress(*REDIS_FAILURES):
            if self._entered:
                await self._redis.zrem(self._key, *self._entered)

    async def _exchange(self) -> None:
        here = frozenset(self._entry(*actor) for actor in self._connections.actors().items())
        # Redis's own clock, for those of several machines may differ.
        seconds, microseconds = await self._redis.time()
        now = seconds + microseconds / 1e6
        async with self._redis.pipeline(transaction=True) as pipeline:
            if gone := self._entered - here:
                pipeline.zrem(self._key, *gone)
            if here:
                pipeline.zadd(self._key, dict.fromkeys(here, now + LIFETIME_SECONDS))
            pipeline.zremrangebyscore(self._key, "-inf", now)
            pipeline.zrange(self._key, 0, -1)
            *_, entries = await pipeline.execute()
        self._entered = here
        self._looked_at = time.monotonic()
        self._elsewhere = dict(_read(entry) for entry in entries if self._process not in entry)

    def _forget_stale(self) -> None:
        # What was known holds on for as long as an entry does; a moment without Redis makes nobody offline.
        if time.monotonic() - self._looked_at > LIFETIME_SECONDS:
            self._elsewhere = {}

    def _entry(self, user_id: UUID, kind: ActorType) -> str:
        return f"{user_id}/{self._process}{AGENTS_MARK if kind is ActorType.AGENT else ''}"

    def _tell_changes(self) -> None:
        """Tell the sockets here what differs from what they know.

        All users of a process come or go at once when it does, which is more than a queue takes, so the rest is told
        when the readers have had a turn.
        """
        online = {**self._elsewhere, **self._connections.actors()}
        come = {user_id: online[user_id] for user_id in islice(online.keys() - self._told.keys(), TOLD_AT_ONCE)}
        gone = {user_id: self._told[user_id] for user_id in islice(self._told.keys() - online.keys(), TOLD_AT_ONCE)}
        self._connections.deliver(
            *(_live(UserOnline(user_id=user_id), kind) for user_id, kind in come.items()),
            *(_live(UserOffline(user_id=user_id), kind) for user_id, kind in gone.items()),
        )
        self._told |= come
        for user_id in gone:
            del self._told[user_id]
        if self._told.keys() != online.keys():
            asyncio.get_running_loop().call_soon(self._tell_changes)


def _read(entry: str) -> tuple[UUID, ActorType]:
    user_id, _, process = entry.partition("/")
    return UUID(user_id), ActorType.AGENT if process.endswith(AGENTS_MARK) else ActorType.USER


def _live(event: UserOnline | UserOffline, kind: ActorType) -> PublishedEvent:
    envelope = Envelope(
        id=uuid7(),
        seq=None,
        type=event.type,
        timestamp=datetime.now(UTC),
        actor=EventActor(id=event.user_id, type=kind),
        task=None,
        data=event.model_dump(mode="json"),
    )
    return PublishedEvent(None, event.type, event.user_id, None, None, envelope.model_dump_json())
