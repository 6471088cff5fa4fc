"""Trying until something is had, or the client is gone."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from app.core.auth import SignedIn
from app.core.permissions import Actor
from app.core.redis import PrefixedRedis, connect_redis
from app.events.published import PublishedEvent
from app.models import EventType
from app.websockets.attempts import try_until_had
from app.websockets.connection_manager import ConnectionManager
from app.websockets.conversation import SocketServer
from app.websockets.presence import Presence
from tests.utils.test_utils import wait_until_async

ADA = Actor(uuid4())
NEWS = frozenset({EventType.TASK_CREATED})


async def nobody_leaves() -> None:
    await asyncio.Event().wait()


def news(seq: int, kind: EventType = EventType.TASK_CREATED) -> PublishedEvent:
    return PublishedEvent(seq, kind, ADA.id, None, [] if kind.is_internal else None, "{}")


class Wanting:
    """A caller who waits for something, and what becomes of them."""

    def __init__(self, redis: PrefixedRedis) -> None:
        self.connections = ConnectionManager()
        self.connections.follow_from(0)
        presence = Presence(redis, self.connections)

        async def unused(*_: object) -> None:
            raise NotImplementedError

        self._server = SocketServer(self.connections, presence, unused, unused, unused, frozenset())  # type: ignore[arg-type]
        self.attempts = 0
        self.is_to_be_had = False

    async def attempt(self) -> str | None:
        self.attempts += 1
        return "it" if self.is_to_be_had else None

    async def wait(self) -> str | None:
        signed_in = SignedIn(ADA, datetime.now(UTC) + timedelta(minutes=1), uuid4())
        return await try_until_had(
            self._server, signed_in, self.attempt, news=NEWS, seconds=20, departure=nobody_leaves
        )

    async def until_waiting(self) -> None:
        async def has_tried() -> bool:
            return self.attempts == 1

        await wait_until_async(has_tried, what="the first attempt")


@pytest.fixture
def wanting(redis_url: str) -> Wanting:
    return Wanting(connect_redis(redis_url))


async def test_news_are_worth_an_attempt(wanting: Wanting) -> None:
    waiting = asyncio.create_task(wanting.wait())
    await wanting.until_waiting()
    wanting.is_to_be_had = True
    wanting.connections.deliver(news(1))

    assert await waiting == "it"
    assert wanting.attempts == 2


async def test_whoever_is_signed_in_no_longer_takes_nothing_any_more(wanting: Wanting) -> None:
    waiting = asyncio.create_task(wanting.wait())
    await wanting.until_waiting()
    wanting.is_to_be_had = True
    wanting.connections.deliver(news(1))
    wanting.connections.deliver(news(2, EventType.ACCOUNT_DEACTIVATED))

    assert await waiting is None
    assert wanting.attempts == 1


async def test_an_account_that_ended_meanwhile_does_not_begin(wanting: Wanting) -> None:
    wanting.is_to_be_had = True
    wanting.connections.deliver(news(1, EventType.ACCOUNT_DEACTIVATED))

    assert await wanting.wait() is None
    assert wanting.attempts == 0
