"""How long each main call of the API takes: min, median, p95 and max, in a table.

    make bench
    make bench URL=http://127.0.0.1:8000

Without an address it starts a system of its own in a throw-away data folder, and ends it. It checks every answer, and
fails when the median of a call passes half a second. pytest runs it too, with fewer rounds.

On a server that is yours it leaves a deactivated account and the events of its tasks behind; the tasks are deleted.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from bench.own_system import own_system
from tests.conftest import RunningSystem
from tests.utils.test_utils import PATIENCE

MEDIAN_LIMIT_MS = 500.0
ROUNDS = 30
ROUNDS_IN_TESTS = 5
PASSWORD = "a password for the benchmark"

Times = Mapping[str, Sequence[float]]


class Benchmark:
    """One user who goes through the life of a task again and again."""

    def __init__(self, client: httpx2.Client) -> None:
        self._client = client
        self._email = f"benchmark-{uuid4().hex}@example.org"
        self._user_id = ""
        self._task_ids: list[str] = []
        self.times: dict[str, list[float]] = {}

    def run(self, rounds: int) -> Times:
        """Milliseconds of each call, by its name."""
        self._sign_up()
        try:
            self._round()
            # The first round opened connections and filled caches.
            self.times.clear()
            for _ in range(rounds):
                self._round()
        finally:
            self._clean_up()
        return self.times

    def _round(self) -> None:
        self._look_around()
        self._finish_a_task()
        self._claim_a_task()

    def _call(self, name: str, method: str, path: str, *, status: int = 200, body: object = None) -> Any:
        """The answer's JSON."""
        started = time.perf_counter()
        answer = self._client.request(method, path, json=body)
        duration = (time.perf_counter() - started) * 1000
        assert answer.status_code == status, f"{name}: {answer.status_code} {answer.text}"
        self.times.setdefault(name, []).append(duration)
        return answer.json()

    def _sign_up(self) -> None:
        account = {"email": self._email, "password": PASSWORD, "display_name": "Benchmark"}
        answer = self._client.post("/auth/register", json=account)
        assert answer.status_code == 201, answer.text
        self._user_id = answer.json()["user"]["id"]
        self._sign_in()

    def _sign_in(self) -> None:
        token = self._call("login", "POST", "/auth/login", body={"email": self._email, "password": PASSWORD})
        self._client.headers["Authorization"] = f"Bearer {token['access_token']}"

    def _look_around(self) -> None:
        assert self._call("health", "GET", "/health") == {"status": "ok"}
        self._sign_in()
        assert self._call("me", "GET", "/users/me")["id"] == self._user_id
        assert all("email" not in entry for entry in self._call("users", "GET", "/users"))
        assert self._call("dashboard", "GET", "/dashboard/summary")["users"]["active"] >= 1

    def _finish_a_task(self) -> None:
        task = self._create_task("draft")
        place = f"/tasks/{task['id']}"
        assert self._call("get task", "GET", place) == task
        assert self._call("list tasks", "GET", "/tasks?owner=me")[0] == task
        assert self._call("patch task", "PATCH", place, body={"priority": "high"})["priority"] == "high"
        assigned = self._call("assign", "POST", f"{place}/assign", body={"user_id": self._user_id})
        assert assigned["status"] == "in_progress"
        completed = self._call("status", "PUT", f"{place}/status", body={"status": "completed"})
        assert completed["completed_at"] is not None
        told = [event["type"] for event in self._call("history", "GET", f"{place}/history")]
        assert told == ["task.status_changed", "task.assigned", "task.updated", "task.created"]

    def _claim_a_task(self) -> None:
        task = self._create_task("available")
        claimed = self._call("claim", "POST", f"/tasks/{task['id']}/claim")
        assert (claimed["status"], claimed["assignee_id"]) == ("in_progress", self._user_id)

    def _create_task(self, status: str) -> Any:
        body = {"title": "Water the orchids", "category": "benchmark", "impact_points": 3, "status": status}
        task = self._call("create task", "POST", "/tasks", status=201, body=body)
        self._task_ids.append(task["id"])
        return task

    def _clean_up(self) -> None:
        for task_id in self._task_ids:
            self._client.delete(f"/tasks/{task_id}")
        self._client.delete("/users/me")


def measure(address: str, rounds: int) -> Times:
    """Times of the server whose API is at `address` (up to `/api/v1`)."""
    with httpx2.Client(base_url=address, timeout=PATIENCE) as client:
        return Benchmark(client).run(rounds)


def table_of(times: Times) -> str:
    lines = [f"{'call':<14}{'n':>5}{'min':>9}{'median':>9}{'p95':>9}{'max':>9}   (ms)"]
    for name, values in sorted(times.items()):
        p95 = statistics.quantiles(values, n=20, method="inclusive")[-1]
        figures = (min(values), statistics.median(values), p95, max(values))
        lines.append(f"{name:<14}{len(values):>5}" + "".join(f"{figure:>9.1f}" for figure in figures))
    return "\n".join(lines)


def slow_calls(times: Times) -> list[str]:
    return [name for name, values in times.items() if statistics.median(values) > MEDIAN_LIMIT_MS]


@pytest.mark.committed
@pytest.mark.usefixtures("sessions")
def test_no_call_takes_half_a_second(running_system: RunningSystem) -> None:
    times = measure(running_system.address, ROUNDS_IN_TESTS)

    # The machine may be busy, so the best round of each call counts.
    assert slow_calls({name: [min(values)] for name, values in times.items()}) == [], table_of(times)


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description="Time the API's calls; a median over 500 ms is a failure.")
    parser.add_argument("--url", help="a running server, such as http://127.0.0.1:8000; without it, one is started")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"how often each call is made ({ROUNDS})")
    arguments = parser.parse_args()
    try:
        if arguments.url:
            times = measure(f"{arguments.url.rstrip('/')}/api/v1", max(arguments.rounds, 2))
        else:
            with own_system() as system:
                times = measure(system.api, max(arguments.rounds, 2))
    except (httpx2.HTTPError, AssertionError) as error:
        sys.stderr.write(f"benchmark: {error}\n")
        return 1
    sys.stdout.write(table_of(times) + "\n")
    if slow := slow_calls(times):
        sys.stderr.write(f"benchmark: the median passes {MEDIAN_LIMIT_MS:.0f} ms: {', '.join(slow)}\n")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
