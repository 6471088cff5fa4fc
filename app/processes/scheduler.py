"""The process in which a scheduler runs."""

import asyncio

import structlog

from app.backing import Backing
from app.config import Settings
from app.core.errors import HiveError
from app.core.logging import configure_logging
from app.database import Database
from app.events.schedule import ask_for_scheduled_jobs
from app.processes.stopping import cancel_when_told

LOOK_SECONDS = 5.0

log = structlog.stdlib.get_logger(__name__)


async def run_scheduler(settings: Settings, backing: Backing) -> None:
    """Ask for the jobs that come by the clock until told to stop. Any number of these may run at once."""
    configure_logging(settings, "scheduler")
    database = Database.connect(backing.database_url, application="scheduler", pool_size=1, keeps_turns_for_reads=False)
    scheduling = asyncio.create_task(_schedule(database))
    cancel_when_told(scheduling)
    try:
        await scheduling
    except asyncio.CancelledError:
        # Told to stop; what it has asked for is in its rows.
        pass
    finally:
        await database.close()


async def _schedule(database: Database) -> None:
    log.info("the scheduler is up")
    while True:
        try:
            async with database.unit_of_work() as transaction:
                asked = await ask_for_scheduled_jobs(transaction)
            log.debug("asked for scheduled jobs", jobs=asked)
        except HiveError as error:
            log.warning("the scheduler waits for the database", reason=error.reason)
        await asyncio.sleep(LOOK_SECONDS)
