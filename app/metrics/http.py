"""Requests: how many were answered, and how long it took until the answer began."""

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics

# Whatever strangers send, there are only so many series: their methods and paths are not HIVE's.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER_METHOD = "other"
NO_ROUTE = "none"
LABELS = ("method", "route", "status")
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

# The library would tell the time of birth of each series as a series more.
disable_created_metrics()  # type: ignore[no-untyped-call]  # The library forgot its type.


class HttpMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "hive_http_requests", "Requests that were answered by this process.", LABELS, registry=registry
        )
        self._durations = Histogram(
            "hive_http_request_duration_seconds",
            "Seconds until the answer began. A stream goes on after that.",
            LABELS,
            buckets=SECONDS,
            registry=registry,
        )
        self._known: dict[tuple[str, str, str], tuple[Counter, Histogram]] = {}

    def answered(self, *, method: str, route: str | None, status: int, seconds: float) -> None:
        """`route` is the path as it's declared, such as `/api/v1/tasks/{task_id}`; None for an address of none."""
        requests, durations = self._series(method if method in METHODS else OTHER_METHOD, route or NO_ROUTE, status)
        requests.inc()
        durations.observe(seconds)

    def _series(self, method: str, route: str, status: int) -> tuple[Counter, Histogram]:
        # The library looks each of them up under a lock.
        labels = (method, route, str(status))
        known = self._known.get(labels)
        if known is None:
            known = self._known[labels] = self._requests.labels(*labels), self._durations.labels(*labels)
        return known
