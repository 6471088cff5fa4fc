"""What HIVE does in Redis, tried one by one under names that are nobody's. docs/redis.md lists the rights."""

from collections.abc import AsyncIterator, Sequence
from uuid import uuid4

from app.causes.redis import why_redis
from app.core.redis import REDIS_FAILURES, PrefixedRedis

Command = tuple[str | int, ...]
SCRIPT = "return redis.call('PTTL', KEYS[1])"


def _rights(scratch: str, channel: str) -> dict[str, Sequence[Command]]:
    """The commands of each thing that HIVE does, in an order in which they work."""
    stream, times, counter, entries, table = (
        f"{scratch}:{kind}" for kind in ("events", "times", "count", "list", "hash")
    )
    return {
        "answer and tell the time": [("PING",), ("TIME",)],
        "keep events": [
            ("XADD", stream, "MAXLEN", "~", 10, "1-0", "a", "b"),
            ("XREAD", "COUNT", 1, "STREAMS", stream, 0),
            ("XREVRANGE", stream, "+", "-", "COUNT", 1),
        ],
        "keep who is online and which workers live": [
            ("ZADD", times, 1, "a"),
            ("ZRANGE", times, 0, -1),
            ("ZREVRANGE", times, 0, 0),
            ("ZCOUNT", times, 0, 1),
            ("ZRANGEBYSCORE", times, 0, 1),
            ("ZREM", times, "b"),
            ("ZREMRANGEBYSCORE", times, "-inf", 0),
        ],
        "count requests and sign-ins": [
            ("SET", counter, 1),
            ("GET", counter),
            ("INCRBY", counter, 1),
            ("EXPIRE", counter, 60),
            ("SETEX", counter, 60, 1),
            ("EXISTS", counter),
            ("SCRIPT", "LOAD", SCRIPT),
            ("EVAL", SCRIPT, 1, counter),
        ],
        "keep the queue of jobs": [
            ("LPUSH", entries, "a", "b", "c"),
            ("LLEN", entries),
            ("LINDEX", entries, 0),
            ("LTRIM", entries, 0, 1),
            ("LPOP", entries),
            ("BRPOP", entries, 1),
            ("HSET", table, "a", "b"),
            ("HGET", table, "a"),
            ("HDEL", table, "a"),
            ("SADD", f"{table}:set", "a"),
            ("SMEMBERS", f"{table}:set"),
        ],
        "wake the relay and tell results": [("PUBLISH", channel, "")],
        "forget": [("DEL", stream, times, counter, entries, table, f"{table}:set")],
    }


async def try_rights(redis: PrefixedRedis) -> AsyncIterator[tuple[str, BaseException | None]]:
    """Each thing that HIVE does, and why this user of Redis can't do it; None when it can."""
    name = uuid4().hex
    # Celery's names have a prefix of their own within HIVE's.
    for scratch in (redis.key(f"check:{name}"), redis.key(f"celery:check:{name}")):
        for what, commands in _rights(scratch, f"{scratch}:channel").items():
            yield f"{what} in {scratch.removesuffix(name)}*", await _try(redis, commands)
    yield "subscribe to HIVE's channels", await _subscribe(redis, redis.key(f"check:{name}:channel"))


async def why_lacking(redis: PrefixedRedis) -> BaseException | None:
    """The first refusal of a right; None when there is none."""
    async for _, refusal in try_rights(redis):
        if refusal is not None:
            return refusal
    return None


async def _try(redis: PrefixedRedis, commands: Sequence[Command]) -> BaseException | None:
    try:
        for command in commands:
            await redis.execute_command(*command)  # type: ignore[no-untyped-call]
    except REDIS_FAILURES as error:
        return error
    return None


async def _subscribe(redis: PrefixedRedis, channel: str) -> BaseException | None:
    try:
        async with redis.pubsub() as subscription:
            await subscription.subscribe(channel)
            await subscription.get_message(timeout=1.0)
    except REDIS_FAILURES as error:
        return error
    return None


def told(what: str, refusal: BaseException | None) -> str:
    """One line about one right."""
    return f"Redis: HIVE may {what}" if refusal is None else f"Redis: to {what}: {why_redis(refusal).sentence}"
