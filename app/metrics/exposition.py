"""All metrics of one process as one text."""

import asyncio
import platform
from collections.abc import Iterable

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, Info, ProcessCollector, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from app import __version__
from app.database import Database
from app.metrics.http import HttpMetrics
from app.metrics.readers import reader_metrics
from app.metrics.stored import StoredFigures, stored_metrics
from app.metrics.wire import wire_metrics
from app.websockets.conversation import SocketServer
from app.wire.endings import Endings

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class Metrics:
    def __init__(self, database: Database, sockets: SocketServer) -> None:
        self._registry = CollectorRegistry()
        self._sockets = sockets
        self._stored = StoredFigures(database)
        self.http = HttpMetrics(self._registry)
        # HIVE's own server puts its own here. Under others nothing is refused before it's a request.
        self.endings = Endings()
        build = Info("hive_build", "What runs here.", registry=self._registry)
        build.info({"version": __version__, "python": platform.python_version()})
        ProcessCollector(registry=self._registry)

    async def expose(self) -> bytes:
        """What there is to tell now, in Prometheus's text format. Without PostgreSQL it's less."""
        stored = await self._stored.read()
        families = [*reader_metrics(self._sockets), *wire_metrics(self.endings), *stored_metrics(stored)]
        # With every route in use the text is hundreds of kilobytes, which takes longer than a request may wait.
        return await asyncio.to_thread(generate_latest, _Together(self._registry, families))


class _Together(Collector):
    """What the registry counts by itself, and what was looked up for this scrape."""

    def __init__(self, registry: CollectorRegistry, families: Iterable[Metric]) -> None:
        self._registry = registry
        self._families = families

    def collect(self) -> Iterable[Metric]:
        yield from self._registry.collect()
        yield from self._families
