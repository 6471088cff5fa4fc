"""Requests made from the OpenAPI document: each answer is one that the document tells of."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest

from app.config import Settings
from app.core.security import issue_token
from app.models import User
from tests.conftest import RunningSystem
from tests.fuzz.reading import read_everything
from tests.utils.processes import running_apis
from tests.utils.test_utils import PATIENCE

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
ROOT = Path(__file__).resolve().parents[2]
# Made for each route, besides the thousands that its schema's limits call for in the long form.
CASES, CASES_IN_TESTS = 150, 6
PHASES_IN_TESTS = "examples,fuzzing,stateful"
# The short form is the same each time, so that a change is to blame for what goes wrong with it. The long one is new.
SEED_IN_TESTS = 1
# They need a password, a refresh token, another session or a notification, of which no request names a real one.
NEVER_ACCEPTED = {
    "POST /api/v1/auth/login",
    "POST /api/v1/auth/token",
    "POST /api/v1/auth/refresh",
    "DELETE /api/v1/users/me/sessions/{session_id}",
    "POST /api/v1/notifications/{notification_id}/read",
}
LEAST_CASES, LEAST_CASES_IN_TESTS = 5_000, 250


@pytest.fixture
def address(running_system: RunningSystem, hive_environment: dict[str, str]) -> Iterator[str]:
    """A further API, which takes as many requests as come, from callers as various as `hooks.py` makes them."""
    further = {
        "REQUESTS_PER_MINUTE": "0",
        "BYTES_PER_USER_AND_DAY": "0",
        "REGISTRATIONS_PER_MINUTE": "0",
        "TRUSTED_PROXIES": "127.0.0.1",
        "LOG_LEVEL": "WARNING",
    }
    with running_apis(1, hive_environment | further) as [api]:
        yield api.address
        assert api.process.process.poll() is None, api.process.output
        assert "Traceback" not in api.process.output, api.process.output


@dataclass(frozen=True)
class Fuzzer:
    """The program that makes requests from the document of a running HIVE, in an admin's name."""

    address: str
    token: str
    environment: dict[str, str]

    async def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-m", "schemathesis.cli", f"--config-file={CONFIGURATION}"]
        return await asyncio.to_thread(
            subprocess.run,
            [*program, "run", f"{self.address}/openapi.json", "--no-color", *options],
            cwd=ROOT,
            env=self.environment | {"HIVE_ADDRESS": self.address, "HIVE_TOKEN": self.token},
            capture_output=True,
            text=True,
            check=False,
        )

    def client(self) -> httpx2.AsyncClient:
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx2.AsyncClient(base_url=f"{self.address}/api/v1", headers=headers, timeout=PATIENCE)


@pytest.fixture
def fuzzer(address: str, admin: User, settings: Settings, hive_environment: dict[str, str]) -> Fuzzer:
    token = issue_token(admin.id, admin.id, key=settings.jwt_key, lifetime=timedelta(hours=1))
    return Fuzzer(address, token, hive_environment)


@pytest.mark.committed
@pytest.mark.fuzz
@pytest.mark.usefixtures("running_worker")
async def test_every_answer_is_one_that_the_document_tells_of(fuzzer: Fuzzer, tmp_path: Path, *, is_long: bool) -> None:
    report = tmp_path / "report.json"
    size = [f"--max-examples={CASES}"]
    if not is_long:
        size = [f"--max-examples={CASES_IN_TESTS}", f"--phases={PHASES_IN_TESTS}", f"--seed={SEED_IN_TESTS}"]

    async with fuzzer.client() as client:
        since = (await client.get("/events")).json()["head"]
    ended = await fuzzer.run(*size, f"--report-json-path={report}")

    sys.stdout.write(ended.stdout)
    assert ended.returncode == 0, ended.stdout[-20_000:] + ended.stderr
    told = json.loads(report.read_text())
    assert told["complete"]
    assert told["test_cases"]["errored"] == 0
    assert told["operations"]["tested"] == told["operations"]["total"] - 1
    assert told["test_cases"]["generated"] >= (LEAST_CASES if is_long else LEAST_CASES_IN_TESTS)
    if is_long:
        assert {name for name, rates in told["valid_rates"].items() if not accepted(rates)} <= NEVER_ACCEPTED
    async with fuzzer.client() as client:
        await read_everything(client, since=since)


def accepted(rates: dict[str, dict[str, int]]) -> int:
    """How many requests did what they asked for, in all phases."""
    return sum(phase["accepted"] for phase in rates.values())
