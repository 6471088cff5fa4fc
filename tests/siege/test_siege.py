"""Strangers attack an API from a process of their own, and somebody else goes on working.

`make siege` does one attack after the other and prints a line about each. `make test` does all at once, for seconds.
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.reliability.system import ROOT, ChaosSystem
from tests.siege.attacks import ATTACKS
from tests.siege.witness import Witness

pytestmark = pytest.mark.siege

MIB = 1024 * 1024
ATTACK_SECONDS = 15
SHORT_SECONDS = 3
# What HIVE has to have given back by then.
RECOVERY_SECONDS = 30
MOST_P99 = 0.25
MOST_GROWTH = 100 * MIB
HEADING = f"{'attack':<38} {'p50':>6} {'p99':>6} {'max':>6}  {'RSS MiB':>15}  {'fds':>11}  {'sent':>7}  ends"


@dataclass(frozen=True)
class Vitals:
    """What a process has at a moment."""

    rss: int
    descriptors: int

    @classmethod
    def of(cls, pid: int) -> "Vitals":
        status = Path(f"/proc/{pid}/status").read_text()
        rss = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
        return cls(rss * 1024, sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()))


@dataclass
class Outcome:
    """What an attack did to the witness and to the process."""

    name: str
    witness: Witness
    before: Vitals
    most: Vitals
    after: Vitals
    attacks: dict[str, dict[str, object]]

    def line(self) -> str:
        times = " ".join(f"{self.witness.percentile(percent):6.3f}" for percent in (50, 99, 100))
        rss = " ".join(f"{vitals.rss // MIB:4}" for vitals in (self.before, self.most, self.after))
        files = " ".join(f"{vitals.descriptors:3}" for vitals in (self.before, self.most, self.after))
        sent = sum(int(str(told["bytes"])) for told in self.attacks.values()) // MIB
        ends = {name: told["ends"] for name, told in self.attacks.items()}
        faults = f"  {len(self.witness.faults)} faults, such as {self.witness.faults[0]}" if self.witness.faults else ""
        told = ends.get(self.name, ends)
        return f"{self.name:<38} {times}  {rss:>15}  {files:>11}  {sent:>4} MB  {told}{faults}"


async def besiege(system: ChaosSystem, names: Sequence[str], *, seconds: float, is_full: bool, rest: float) -> Outcome:
    """Attack for so many seconds; `rest` is how long HIVE has after it."""
    api = system.apis[0]
    working, attacking = [await system.user(name) for name in ("Ada", "Mallory")]
    witness = Witness(api.address, system.token_of(working))
    before = most = Vitals.of(api.process.pid)
    target = {"host": "127.0.0.1", "port": api.port, "token": system.token_of(attacking)}
    wish = json.dumps({"names": names, "seconds": seconds, "is_full": is_full, "target": target})
    attacker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.siege.attacker", wish, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    async with witness.at_work():
        ending = asyncio.create_task(attacker.communicate())
        while not ending.done():
            await asyncio.wait({ending}, timeout=0.1)
            now = Vitals.of(api.process.pid)
            most = Vitals(max(now.rss, most.rss), max(now.descriptors, most.descriptors))
    await asyncio.sleep(rest)
    told = json.loads((await ending)[0])
    return Outcome("+".join(names), witness, before, most, Vitals.of(api.process.pid), told)


async def test_attacks_harm_nobody_else(is_full_siege: bool) -> None:
    if not is_full_siege:
        async with ChaosSystem(apis=1) as system:
            outcome = await besiege(system, list(ATTACKS), seconds=SHORT_SECONDS, is_full=False, rest=0)
        assert not outcome.witness.faults
        assert outcome.most.rss < outcome.before.rss + MOST_GROWTH
        return
    sys.stdout.write(f"\n{HEADING}\n")
    outcomes = []
    for name in ATTACKS:
        async with ChaosSystem(apis=1) as system:
            outcome = await besiege(system, [name], seconds=ATTACK_SECONDS, is_full=True, rest=RECOVERY_SECONDS)
        sys.stdout.write(f"{outcome.line()}\n")
        sys.stdout.flush()
        outcomes.append(outcome)
    slow = [outcome.name for outcome in outcomes if outcome.witness.percentile(99) > MOST_P99]
    large = [outcome.name for outcome in outcomes if outcome.most.rss > outcome.before.rss + MOST_GROWTH]
    harmed = [outcome.name for outcome in outcomes if outcome.witness.faults]
    assert (slow, large, harmed) == ([], [], [])
