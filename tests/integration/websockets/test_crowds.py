"""Presence of many readers of one process at once."""

from uuid import uuid4

from app.core.permissions import Actor
from app.core.redis import connect_redis
from app.websockets.connection_manager import ConnectionManager
from app.websockets.presence import Presence
from tests.utils.readers import connect, piped
from tests.utils.test_utils import wait_until_async


async def test_a_crowd_that_comes_and_goes_is_told_together(redis_url: str) -> None:
    redis = connect_redis(redis_url)
    manager = ConnectionManager()
    presence = Presence(redis, manager)

    async def has_been_written(number: int) -> bool:
        return len(pipe.frames) >= number

    async with piped(manager) as (_, pipe):
        crowd = [await connect(manager, Actor(uuid4())) for _ in range(40)]
        for _ in crowd:
            presence.sockets_changed()
        await wait_until_async(lambda: has_been_written(1), what="that they came")
        for gone in crowd:
            manager.remove(gone)
            presence.sockets_changed()
        await wait_until_async(lambda: has_been_written(2), what="that they went")

    assert [frames.count(b'"user.online"') for frames in pipe.frames] == [40, 0]
    assert [frames.count(b'"user.offline"') for frames in pipe.frames] == [0, 40]
    await redis.aclose()
