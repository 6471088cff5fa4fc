"""Which connections there are, from where, and which of them has to go when there are too many."""

import asyncio
from collections import Counter
from enum import IntEnum
from typing import Protocol

from app.limits.address import LOCAL, TrustedProxies, client_of, is_trusted_peer
from app.wire.bounds import MAX_UNFINISHED_BYTES
from app.wire.endings import Ending, Endings
from app.wire.turns import FairTurns

CHECK_SECONDS = 1.0


class Standing(IntEnum):
    """How much is lost when a connection is closed, the least first."""

    NOTHING_ASKED = 0
    SENDS_BODY = 1
    IDLE = 2
    IS_SERVED = 3


class Member(Protocol):
    """A connection whose client is not known to be somebody with an account."""

    @property
    def client(self) -> "Peer": ...

    @property
    def standing(self) -> Standing: ...

    @property
    def unfinished_bytes(self) -> int:
        """What came of a body that isn't whole yet."""

    @property
    def body_reserve(self) -> float:
        """How many seconds the rest of the body may still take; the less, the slower it came."""

    def check(self, now: float, passed: float) -> None:
        """Look whether it has taken too long for something. It comes so many seconds after the last time."""

    def evict(self) -> None:
        """Close it, for there are too many."""


Peer = tuple[str, int] | None


class ConnectionTable:
    """The connections of one process, except those whose users have signed in: the seats limit those.

    An address has `most_each` of them, a trusted proxy any number, all together `most`. Where there is no place for
    a new one, the one goes whose end costs the least, the oldest of those first: silent connections keep nobody out.
    """

    def __init__(self, *, most_each: int, most: int, trusted: TrustedProxies) -> None:
        self.turns = FairTurns()
        self.endings = Endings()
        self._most_each = most_each
        self._most = most
        self._trusted = trusted
        self._groups: dict[str, dict[Member, None]] = {}
        self._addresses: dict[Member, str] = {}
        self._guests = 0
        self._unfinished_bytes = 0
        self._check: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._addresses) + self._guests

    def admit(self, member: Member, peer: Peer) -> bool:
        """Take the connection in, if need be in place of another one; whether there was a place."""
        scope = {"client": peer, "headers": ()}
        address = client_of(scope, self._trusted)
        is_limited = address != LOCAL and not is_trusted_peer(scope, self._trusted)
        if not self._has_place(address, most=self._most_each if is_limited else self._most):
            self.endings.note(Ending.NO_PLACE, peer)
            return False
        self._add(member, address)
        if self._check is None:
            self._plan_check()
        return True

    def replace(self, member: Member, by: Member) -> None:
        """Give the place of a connection to the protocol that it was upgraded to."""
        if (address := self._addresses.get(member)) is not None:
            self.leave(member)
            self._add(by, address)

    def leave(self, member: Member) -> None:
        if (address := self._addresses.pop(member, None)) is not None:
            group = self._groups[address]
            del group[member]
            if not group:
                del self._groups[address]

    def sign_in(self, member: Member) -> bool:
        """Limit the connection no longer by its address, though it still takes a descriptor; False if it was evicted.

        `sign_out` has to follow if it's True.
        """
        if member not in self._addresses:
            return False
        self.leave(member)
        self._guests += 1
        return True

    def sign_out(self) -> None:
        self._guests -= 1

    def add_unfinished(self, size: int) -> None:
        """Count what came of a body. If all bodies are too much together, the slowest one goes of the address that
        sends the most."""
        self._unfinished_bytes += size
        if self._unfinished_bytes > MAX_UNFINISHED_BYTES:
            sizes: Counter[str] = Counter()
            for member, address in self._addresses.items():
                sizes[address] += member.unfinished_bytes
            [(largest, _)] = sizes.most_common(1)
            slowest = min(
                (member for member in self._groups[largest] if member.unfinished_bytes),
                key=lambda member: member.body_reserve,
                default=None,
            )
            if slowest is not None:
                self._evict(slowest, Ending.EVICTED_BODY)

    def take_back_unfinished(self, size: int) -> None:
        self._unfinished_bytes -= size

    def _add(self, member: Member, address: str) -> None:
        self._addresses[member] = address
        self._groups.setdefault(address, {})[member] = None

    def _has_place(self, address: str, *, most: int) -> bool:
        own = self._groups.get(address, {})
        if len(own) >= most:
            return self._evict_one(own)
        if len(self) < self._most:
            return True
        largest = max(self._groups.values(), key=len, default=own)
        return self._evict_one(largest)

    def _evict_one(self, group: dict[Member, None]) -> bool:
        member = min(group, key=_standing, default=None)
        if member is None or member.standing is Standing.IS_SERVED:
            return False
        self._evict(member, Ending.EVICTED)
        return True

    def _evict(self, member: Member, ending: Ending) -> None:
        self.leave(member)
        self.endings.note(ending, member.client)
        member.evict()

    def _plan_check(self) -> None:
        self._check = asyncio.get_running_loop().call_later(CHECK_SECONDS, self._check_all, _now())

    def _check_all(self, last: float) -> None:
        now = _now()
        for member in list(self._addresses):
            member.check(now, now - last)
        self._check = None
        if self._addresses:
            self._plan_check()


def _standing(member: Member) -> Standing:
    return member.standing


def _now() -> float:
    return asyncio.get_running_loop().time()
