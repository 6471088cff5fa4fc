"""What the processes of a HIVE have at a moment: memory, descriptors, and of PostgreSQL the connections."""

from dataclasses import dataclass
from pathlib import Path

from tests.reliability.system import ChaosSystem

MIB = 1024 * 1024
MAX_GROWTH = 100 * MIB
# What may stay when an attack is over. Code that was never run before, and plans and pools, need some of it.
MAX_LEFT = 30 * MIB
# The pools of HIVE keep a few connections to PostgreSQL and Redis that were opened for the attack.
MAX_DESCRIPTORS_LEFT = 8
# Those of all processes.
MAX_BACKENDS_LEFT = 12


@dataclass(frozen=True)
class Vitals:
    """`rss` leaves out what a process of PostgreSQL's shares with the others."""

    rss: int
    descriptors: int

    @classmethod
    def of(cls, pid: int) -> "Vitals":
        return cls(_status(pid, "VmRSS"), sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()))

    @classmethod
    def of_postgres(cls, pid: int) -> "Vitals":
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return cls(sum(_status(int(child), "RssAnon") for child in children), len(children))

    def most(self, other: "Vitals") -> "Vitals":
        return Vitals(max(self.rss, other.rss), max(self.descriptors, other.descriptors))


Body = dict[str, Vitals]


def look(system: ChaosSystem) -> Body:
    """The vitals of each process, by what it is."""
    parts = [*system.apis, *system.relays, *system.workers]
    body = {part.command: Vitals.of(part.process.pid) for part in parts}
    if (valkey := system.valkey_pid) is not None:
        body["valkey"] = Vitals.of(valkey)
    if (postgres := system.postgres_pid) is not None:
        body["postgres"] = Vitals.of_postgres(postgres)
    return body


def grown(before: Body, most: Body) -> list[str]:
    """Which of them has had too much memory."""
    return [
        f"{name}: {vitals.rss // MIB} MiB after {before[name].rss // MIB}"
        for name, vitals in most.items()
        if vitals.rss > before[name].rss + MAX_GROWTH
    ]


def kept(before: Body, after: Body) -> list[str]:
    """What was not given back."""
    faults = []
    for name, vitals in after.items():
        allowed = MAX_BACKENDS_LEFT if name in {"postgres", "valkey"} else MAX_DESCRIPTORS_LEFT
        if vitals.rss > before[name].rss + MAX_LEFT:
            faults.append(f"{name} keeps {vitals.rss // MIB} MiB, and had {before[name].rss // MIB}")
        if vitals.descriptors > before[name].descriptors + allowed:
            faults.append(f"{name} keeps {vitals.descriptors} descriptors, and had {before[name].descriptors}")
    return faults


def _status(pid: int, name: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        # It has ended meanwhile.
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), 0)
