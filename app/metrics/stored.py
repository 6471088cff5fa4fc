"""What all processes share: it's in PostgreSQL, and read from there when monitoring asks."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from sqlalchemy import func, select

from app.core.errors import HiveError
from app.database import Database
from app.db.transaction import Transaction
from app.events.lag import publication_lag
from app.events.published import read_log
from app.models import Job, JobState

READ_SECONDS = 2.0

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Stored:
    published: int
    lag_seconds: float
    jobs: Mapping[JobState, int]


class StoredFigures:
    """Reads at one scrape at a time, so that many of them, or a database that hangs, cost one connection."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reading: asyncio.Task[Stored | None] | None = None

    async def read(self) -> Stored | None:
        """None when PostgreSQL doesn't answer in time."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
        # It's not cancelled when it's late: that would wait for the database once more, to roll back.
        done, _ = await asyncio.wait({self._reading}, timeout=READ_SECONDS)
        return self._reading.result() if done else None

    async def _read(self) -> Stored | None:
        try:
            async with self._database.unit_of_work(is_reading=True) as transaction:
                return await _look(transaction)
        except HiveError as error:
            log.debug("the database tells no figures", reason=error.reason)
        except Exception:  # The rest of the metrics is still worth telling.
            log.exception("the figures of the database could not be read")
        return None


async def _look(transaction: Transaction) -> Stored:
    published = (await read_log(transaction)).published_seq
    lag = await publication_lag(transaction)
    counts = await transaction.execute(select(Job.state, func.count()).group_by(Job.state))
    jobs = dict.fromkeys(JobState, 0) | dict(counts)
    return Stored(published, lag, jobs)


def stored_metrics(stored: Stored | None) -> Iterator[Metric]:
    """Without an answer only that there was none; an old figure would be taken for a new one."""
    yield GaugeMetricFamily("hive_database_up", "Whether PostgreSQL answered this scrape.", stored is not None)
    if stored is None:
        return
    yield CounterMetricFamily("hive_events_published", "Events that the relay has published.", stored.published)
    yield GaugeMetricFamily(
        "hive_relay_lag_seconds", "Age of the event that is next to be published.", stored.lag_seconds
    )
    jobs = GaugeMetricFamily("hive_jobs", "Background jobs; done ones are kept for some days.", labels=["state"])
    for state, count in stored.jobs.items():
        jobs.add_metric([state], count)
    yield jobs
