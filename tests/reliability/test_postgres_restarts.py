"""PostgreSQL is restarted under load: a 503 meanwhile, nothing after that, and what was answered is there."""

import os
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from app.database import ANSWER_SECONDS
from tests.reliability.load import Answer, Load
from tests.reliability.log import check_log, read_log
from tests.reliability.scale import Report, Scale
from tests.reliability.system import ChaosSystem
from tests.utils.test_utils import wait_until_async

pytestmark = pytest.mark.reliability

# "Fast" ends transactions and sessions in good order; "immediate" is as if it had crashed, and recovery follows.
WAYS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
REQUESTS_PER_SECOND = 50
# As many as the API has connections to PostgreSQL, or a slow machine would have some refused for the wait.
PEOPLE = 10
# For how long after PostgreSQL is ready a new request may still be refused. How soon a refusal is made and arrives
# depends on the machine.
REST_SECONDS = 1.0


@dataclass(frozen=True)
class Outage:
    way: str
    began_at: float
    ready_at: float

    def covers(self, answer: Answer) -> bool:
        """Whether the request was asked before new ones have to be served again."""
        is_asked_meanwhile = self.began_at <= answer.answered_at and answer.asked_at <= self.ready_at + REST_SECONDS
        # It waited for a connection or an answer then, and each of these waits has its end.
        return is_asked_meanwhile and answer.seconds <= ANSWER_SECONDS


async def test_a_restart_of_postgresql_costs_nothing_but_503s(scale: Scale, report: Report) -> None:
    async with ChaosSystem(apis=1, relays=1) as system:
        user = await system.user("Ada")
        outages: list[Outage] = []
        async with system.client(user) as client:
            load = Load(client, REQUESTS_PER_SECOND, PEOPLE)
            async with load.running():
                for way in [*WAYS] * scale(3, short=1):
                    await until_well(load, scale(300, short=75))
                    outages.append(await restart(system, way))
                await until_well(load, scale(500, short=125))
        tell(report, load, outages)

        assert [answer for answer in load.answers if answer.fault] == []
        assert [answer for answer in load.answers if answer.seconds > ANSWER_SECONDS] == []
        assert late_refusals(load, outages) == []
        await check_written(system, load)


def late_refusals(load: Load, outages: Sequence[Outage]) -> list[str]:
    """What no outage is the reason for, by its distance from the last one before it."""
    refused = [answer for answer in load.answers if answer.status == 503]
    late = [answer for answer in refused if not any(outage.covers(answer) for outage in outages)]
    return [
        f"{_since_ready(answer, outages):.2f} s after PostgreSQL was ready, asked {answer.seconds:.2f} s before"
        for answer in late
    ]


def _since_ready(answer: Answer, outages: Sequence[Outage]) -> float:
    before = [outage.ready_at for outage in outages if outage.ready_at <= answer.answered_at]
    return answer.answered_at - max(before, default=0.0)


async def restart(system: ChaosSystem, way: str) -> Outage:
    """Stop it in this way; it's ready when it takes a connection of ours."""
    pid = system.postgres_pid
    assert pid is not None
    began_at = time.monotonic()
    os.kill(pid, WAYS[way])
    await system.until_postgres_is_back(pid)
    return Outage(way, began_at, time.monotonic())


async def until_well(load: Load, answers: int) -> None:
    goal = load.well + answers

    async def are_well() -> bool:
        return load.well >= goal

    await wait_until_async(are_well, what=f"{answers} more answers")


async def check_written(system: ChaosSystem, load: Load) -> None:
    """Each version that was answered is in the log once, and the task is there."""
    log = await read_log(system)
    check_log(log)
    told = Counter((str(event["task_id"]), event["task_version"]) for event in log)
    assert [version for version in load.written if told[version] != 1] == []
    versions = {str(row["id"]): row["version"] for row in await system.sql("SELECT id, version FROM tasks")}
    assert [(task, version) for task, version in load.written if versions.get(task, 0) < version] == []


def tell(report: Report, load: Load, outages: Sequence[Outage]) -> None:
    for outage in outages:
        refused = [answer for answer in load.answers if answer.status == 503 and outage.covers(answer)]
        last = max((answer.answered_at for answer in refused), default=outage.ready_at)
        lasted = f"ready after {outage.ready_at - outage.began_at:.2f} s, {len(refused)} times 503"
        report.add(f"{outage.way} restart", f"{lasted}, the last one {last - outage.ready_at:+.2f} s from ready")
    seconds = max(answer.answered_at for answer in load.answers) - min(answer.asked_at for answer in load.answers)
    report.add("requests a second", f"{len(load.answers) / seconds:.0f}")
    for status, times in sorted(load.statuses().items()):
        report.add(f"answers with {status}" if status else "no answer", times)
    report.add("versions answered, all of them in the log", len(load.written))
    report.add("longest wait for an answer", f"{max(answer.seconds for answer in load.answers):.2f} s")
