"""What processes take of the machine, as the kernel counts it."""

import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

_TICK = 1 / os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Of all its threads, in user space and in the kernel, since it began."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) * _TICK


def pss_kib(pid: int) -> int:
    """What it holds of the machine's memory, its part of what it shares with others included."""
    return _memory_kib(pid, "Pss:")


def rss_kib(pid: int) -> int:
    """What it holds of the machine's memory, with the whole of what it shares with others."""
    return _memory_kib(pid, "Rss:")


def processes_of(data_dir: str) -> dict[int, str]:
    """All processes that name this folder in their command line or environment, and what those started, with names.

    The embedded servers belong to a process of their own, which is nobody's child.
    """
    found = set()
    for pid in _pids():
        # It may end while it's looked at.
        with suppress(OSError):
            place = Path(f"/proc/{pid}")
            if data_dir.encode() in (place / "cmdline").read_bytes() + (place / "environ").read_bytes():
                found.add(pid)
    return {pid: _command(pid) for pid in sorted(with_descendants(found) - {os.getpid()})}


def with_descendants(pids: Collection[int]) -> set[int]:
    """The processes and all that they have started."""
    parents = {}
    for pid in _pids():
        with suppress(OSError):
            parents[pid] = int(_stat(pid)[1])
    found = set(pids)
    while further := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= further
    return found


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())


def _stat(pid: int) -> list[str]:
    """The fields after the name, which may have anything in it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ").strip()


def _memory_kib(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))
