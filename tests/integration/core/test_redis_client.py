"""The client of Redis: what HIVE relies on beyond its commands."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from redis.asyncio.connection import AbstractConnection

from app.core.redis import REDIS_FAILURES, PrefixedRedis, connect_redis
from app.core.tcp import TCP_PROBES
from app.events import wakeup
from app.events.wakeup import WAKE_CHANNEL, hear_wake_ups
from tests.utils.test_utils import PATIENCE, wait_until_async
from tests.utils.ways import way

GIVEN_UP = TimeoutError(errno.ETIMEDOUT, "Connection timed out")


@pytest.mark.parametrize("turns", range(12))
async def test_whoever_is_at_a_command_can_be_cancelled_at_any_moment(redis_url: str, turns: int) -> None:
    redis = connect_redis(redis_url)
    await redis.ping()
    is_enough = asyncio.Event()

    async def ping() -> None:
        while not is_enough.is_set():
            await redis.ping()

    pinging = asyncio.create_task(ping())
    for _ in range(turns):
        await asyncio.sleep(0)

    pinging.cancel()
    ended, _ = await asyncio.wait({pinging}, timeout=PATIENCE)

    is_enough.set()
    assert ended == {pinging}
    await redis.aclose()


async def test_a_command_that_the_server_does_not_take_fails_in_time(
    redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = str(tmp_path_factory.mktemp("redis") / "relay.sock")
    async with way(to=urlsplit(redis_url).path, by=path) as taken:
        redis = connect_redis(f"unix://{path}", reply_seconds=0.3)
        await redis.ping()
        taken.is_frozen.set()

        with pytest.raises(REDIS_FAILURES):
            async with asyncio.timeout(PATIENCE):
                # More than the buffers on the way can take, so that it waits to be sent.
                await redis.set("key", b"x" * 20_000_000)
        await redis.aclose()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[PrefixedRedis]:
    redis = connect_redis(redis_url)
    yield redis
    await redis.aclose()


async def taken_from(redis: PrefixedRedis) -> AbstractConnection:
    """A connection of the pool."""
    connection: AbstractConnection = await redis.connection_pool.get_connection()  # type: ignore[no-untyped-call]  # redis-py's decorator hides its types.
    return connection


def give_up(connection: AbstractConnection) -> None:
    """Do to the connection what the kernel does when its peer has acknowledged nothing for too long."""
    assert connection._reader is not None
    assert connection._writer is not None
    connection._reader.set_exception(GIVEN_UP)
    connection._writer.transport.abort()


async def test_a_subscription_that_the_kernel_gave_up_is_a_failure(redis: PrefixedRedis) -> None:
    async with redis.pubsub() as subscription:
        await subscription.subscribe("channel")
        await subscription.get_message(timeout=PATIENCE)
        assert subscription.connection is not None
        give_up(subscription.connection)

        with pytest.raises(REDIS_FAILURES):
            await subscription.get_message(timeout=PATIENCE)


async def test_a_pool_hands_out_no_connection_that_was_given_up(redis: PrefixedRedis) -> None:
    connection = await taken_from(redis)
    await redis.connection_pool.release(connection)
    give_up(connection)

    assert await redis.ping()


async def test_a_failed_connection_takes_the_idle_ones_with_it(redis: PrefixedRedis) -> None:
    pool, first, second = redis.connection_pool, await taken_from(redis), await taken_from(redis)
    await pool.release(second)
    give_up(first)
    with pytest.raises(REDIS_FAILURES):
        await first.read_response()
    assert second.is_connected

    await pool.release(first)

    assert not second.is_connected
    assert await redis.ping()


async def test_a_connection_over_tcp_is_probed_by_the_kernel(redis_url: str) -> None:
    async with way(to=urlsplit(redis_url).path, by=None) as taken:
        redis = connect_redis(f"redis://127.0.0.1:{taken.port}")
        connection = await taken_from(redis)
        assert connection._writer is not None
        kept: socket.socket = connection._writer.get_extra_info("socket")

        assert kept.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert {option: kept.getsockopt(socket.IPPROTO_TCP, option) for option in TCP_PROBES} == TCP_PROBES
        await redis.connection_pool.release(connection)
        await redis.aclose()


async def test_wake_ups_are_heard_again_after_the_kernel_gave_up(
    redis: PrefixedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeup, "RETRY_SECONDS", 0.01)
    woken = asyncio.Event()
    hearing = asyncio.create_task(hear_wake_ups(redis, woken.set))
    await until_subscribed(redis)
    (listener,) = redis.connection_pool._in_use_connections
    give_up(listener)

    await until_woken(redis, woken)

    hearing.cancel()
    await asyncio.gather(hearing, return_exceptions=True)


async def test_a_silent_subscription_is_replaced(
    redis_url: str, redis: PrefixedRedis, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeup, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(wakeup, "QUIET_SECONDS", 0.2)
    path = str(tmp_path_factory.mktemp("redis") / "relay.sock")
    async with way(to=urlsplit(redis_url).path, by=path) as taken:
        distant = connect_redis(f"unix://{path}")
        woken = asyncio.Event()
        hearing = asyncio.create_task(hear_wake_ups(distant, woken.set))
        await until_subscribed(redis)
        taken.is_frozen.set()
        (listener,) = distant.connection_pool._in_use_connections
        await wait_until_async(lambda: was_given_up(listener), what="the end of the silent subscription")

        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)
        await distant.aclose()


async def was_given_up(connection: AbstractConnection) -> bool:
    return not connection.is_connected


async def until_subscribed(redis: PrefixedRedis) -> None:
    async def is_heard() -> bool:
        return bool(await redis.publish(redis.key(WAKE_CHANNEL), ""))

    await wait_until_async(is_heard, what="a subscriber")


async def until_woken(redis: PrefixedRedis, woken: asyncio.Event) -> None:
    async def is_woken() -> bool:
        await redis.publish(redis.key(WAKE_CHANNEL), "")
        return woken.is_set()

    woken.clear()
    await wait_until_async(is_woken, what="a wake-up")
