"""Connections that were refused or ended, as the table of connections counts them."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric

from app.wire.endings import Endings


def wire_metrics(endings: Endings) -> Iterator[Metric]:
    family = CounterMetricFamily(
        "hive_connections_refused", "Connections that this process has refused or ended.", labels=["reason"]
    )
    for ending, count in endings.counts.items():
        family.add_metric([ending], count)
    yield family
