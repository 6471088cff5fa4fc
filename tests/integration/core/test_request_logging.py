"""What a request leaves in the log."""

import json
from collections.abc import Iterator

import httpx2
import pytest

from app.config import Environment, Settings
from tests.utils.logs import SECRET, Configure, own_log


@pytest.fixture
def configure(settings: Settings) -> Iterator[Configure]:
    """Sets up the real log, and gives what reads the lines that went to it."""
    with own_log(settings) as configure:
        yield configure


async def test_each_request_is_logged_once_without_its_query(configure: Configure, client: httpx2.AsyncClient) -> None:
    read = configure(Environment.PRODUCTION, "INFO")

    await client.get(f"/health?q={SECRET}", headers={"X-Request-ID": "trace-0001", "Authorization": f"Bearer {SECRET}"})

    # The test's own client speaks too.
    entries = [entry for entry in map(json.loads, read().splitlines()) if entry["logger"] != "httpx2"]
    [entry] = [entry for entry in entries if entry["event"] == "request"]
    assert (entry["method"], entry["path"], entry["status"]) == ("GET", "/api/v1/health", 422)
    assert entry["request_id"] == "trace-0001"
    assert SECRET not in str(entries)
