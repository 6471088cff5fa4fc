"""The process in which a relay runs."""

import asyncio
from collections.abc import Sequence

from app.backing import Backing
from app.config import Settings
from app.core.logging import configure_logging
from app.core.redis import connect_redis
from app.database import Database
from app.events.due_jobs import DueJob, QueueName
from app.events.relay import Relay
from app.processes.stopping import cancel_when_told
from app.workers.carrier import CeleryCarrier


async def run_relay(settings: Settings, backing: Backing) -> None:
    """Relay until told to stop."""
    configure_logging(settings, "relay")
    # One holds the lock, and each queue of jobs has one.
    database = Database.connect(backing.database_url, application="relay", pool_size=3, keeps_turns_for_reads=False)
    redis = connect_redis(backing.redis_url, prefix=settings.redis_prefix)
    carrier = CeleryCarrier(settings, backing.redis_url)

    async def send_jobs(jobs: Sequence[DueJob]) -> None:
        await asyncio.to_thread(carrier.send, jobs)

    async def count_queued(queue: QueueName) -> int:
        return await asyncio.to_thread(carrier.count_queued, queue)

    relaying = asyncio.create_task(Relay(database, redis, send_jobs, count_queued).run())
    cancel_when_told(relaying)
    try:
        await relaying
    except asyncio.CancelledError:
        # Told to stop; whatever it was at, the rows say how far it came.
        pass
    finally:
        await asyncio.to_thread(carrier.close)
        await redis.aclose()
        await database.close()
