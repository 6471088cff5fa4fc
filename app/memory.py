"""Gives back to the system what was freed. See ADR 53."""

import asyncio
import ctypes
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

LOOK_SECONDS = 10.0
# To give back less isn't worth the pages, which are soon wanted again.
WORTH_BYTES = 16 * 1024 * 1024

_STATM = Path("/proc/self/statm")


class Allocator(Protocol):
    def held_bytes(self) -> int:
        """What of this process is in memory and not handed out by the allocator."""

    def trim(self) -> None:
        """Give back all free pages."""


class FreedMemory:
    """Has free pages given back when there are many of them.

    What is held right after a trim is code and stacks and the like, so whatever is held beyond that was freed since.
    """

    def __init__(self, allocator: Allocator) -> None:
        self._allocator = allocator
        self._least = allocator.held_bytes()

    def look(self) -> None:
        held = self._allocator.held_bytes()
        if held > self._least + WORTH_BYTES:
            self._allocator.trim()
            held = self._least = self._allocator.held_bytes()
        self._least = min(self._least, held)


async def give_back_freed_memory() -> None:
    """Look every ten seconds; return at once where the allocator can't be told to, as only glibc's can."""
    allocator = find_allocator()
    if allocator is None:
        return
    freed = FreedMemory(allocator)
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        # Beside the event loop, which goes on with what its own thread has free.
        await asyncio.to_thread(freed.look)


class _Mallinfo(ctypes.Structure):
    """`struct mallinfo2`."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


@dataclass(frozen=True, slots=True)
class Glibc:
    library: ctypes.CDLL

    def held_bytes(self) -> int:
        resident = int(_STATM.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        info = self.library.mallinfo2()
        return int(resident - info.uordblks - info.hblkhd)

    def trim(self) -> None:
        self.library.malloc_trim(ctypes.c_size_t(0))


def find_allocator() -> Glibc | None:
    """glibc's, from 2.33 on; None if it's another one."""
    library = ctypes.CDLL(None)
    if not (_STATM.exists() and hasattr(library, "malloc_trim") and hasattr(library, "mallinfo2")):
        return None
    library.mallinfo2.restype = _Mallinfo
    return Glibc(library)
