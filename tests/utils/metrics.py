"""Reading the metrics as a scraper does."""

import httpx2
from prometheus_client.parser import text_string_to_metric_families

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Scrape:
    """The samples of one answer."""

    def __init__(self, answer: httpx2.Response) -> None:
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == CONTENT_TYPE
        families = list(text_string_to_metric_families(answer.text))
        self.samples = [sample for family in families for sample in family.samples]
        assert all(family.documentation for family in families)

    def value(self, name: str, **labels: str) -> float | None:
        """The one sample of this name with exactly these labels; None without one."""
        found = [sample.value for sample in self.samples if sample.name == name and sample.labels == labels]
        assert len(found) <= 1, found
        return found[0] if found else None

    def labels(self, name: str) -> list[dict[str, str]]:
        return [sample.labels for sample in self.samples if sample.name == name]
