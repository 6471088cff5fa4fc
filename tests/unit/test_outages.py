"""What is away is told once for each time that it goes, and once when it's back."""

import asyncio

import pytest
import structlog
from redis.exceptions import ConnectionError as RedisConnectionError

from app.core.outages import Outage
from app.core.redis import connect_redis
from app.events import wakeup
from app.events.wakeup import RelayWaker
from app.websockets import presence
from app.websockets.connection_manager import ConnectionManager
from app.websockets.presence import Presence
from tests.utils.test_utils import wait_until


def test_an_outage_is_told_once_and_so_is_its_end() -> None:
    with structlog.testing.capture_logs() as lines:
        outage = Outage(structlog.stdlib.get_logger(), "watering")
        outage.is_over()
        for _ in range(2):
            outage.goes_on("no can")
            outage.goes_on("no water")
            outage.is_over()
            outage.is_over()

    assert [(line["log_level"], line["event"], line.get("reason")) for line in lines] == [
        ("warning", "watering fails, and is tried again and again", "no can"),
        ("info", "watering works again", None),
    ] * 2


@pytest.mark.parametrize("kind", ["waker", "presence"])
async def test_redis_that_refuses_is_told_once(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(wakeup, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(presence, "LOOK_SECONDS", 0.0)
    redis, tries = connect_redis("unix:///nowhere/at-all.sock"), 0

    def refuse(*_: object, **_named: object) -> None:
        nonlocal tries
        tries += 1
        waker.wake()
        raise RedisConnectionError("refused")

    monkeypatch.setattr(redis, "publish", refuse)
    monkeypatch.setattr(redis, "time", refuse)
    waker = RelayWaker(redis)
    waker.wake()
    work = waker.run() if kind == "waker" else Presence(redis, ConnectionManager()).run()
    with structlog.testing.capture_logs() as lines:
        running = asyncio.create_task(work)
        await asyncio.to_thread(wait_until, lambda: tries > 2, what="several tries")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    assert [line["event"].partition(" through Redis fails")[0] for line in lines] == [
        "waking the relay" if kind == "waker" else "exchanging presence"
    ]
