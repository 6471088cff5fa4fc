"""Readers of events, as the room of sockets counts them."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from app.websockets.connection import ReaderKind
from app.websockets.conversation import SocketServer


def reader_metrics(sockets: SocketServer) -> Iterator[Metric]:
    present = GaugeMetricFamily("hive_readers", "Sockets, streams and waiting pages of this process.", labels=["kind"])
    given = CounterMetricFamily("hive_events_delivered", "Events that readers of this process got.", labels=["kind"])
    too_slow = CounterMetricFamily(
        "hive_readers_too_slow", "Readers that were told to resync, for too much waited for them.", labels=["kind"]
    )
    for kind, tally in sockets.connections.tallies().items():
        present.add_metric([kind], tally.present)
        given.add_metric([kind], tally.events)
        # What waits for a page is a sign that there is something to read, and the page reads it all.
        if kind is not ReaderKind.PAGE:
            too_slow.add_metric([kind], tally.too_slow)
    yield from (present, given, too_slow)
    yield CounterMetricFamily(
        "hive_readers_refused",
        "Readers that were refused, for their user had as many as one may.",
        sockets.seats.refused,
    )
