"""What tokens were found to say, for a while: so that not each request has to look it up. See ADR 26."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from uuid import UUID

from cachetools import FIFOCache

from app.core.auth import NOTES_USE_EACH, SignedIn
from app.core.security import hash_secret

# A token is looked up that often at least: the use of an API token is noted then, and no fault outlives it.
REMEMBERED_SECONDS = NOTES_USE_EACH.total_seconds()
MOST_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class _Remembered:
    signed_in: SignedIn
    until: float
    # The same by a clock that nobody sets.
    deadline: float

    def is_about(self, subjects: frozenset[UUID]) -> bool:
        return self.signed_in.id in subjects or self.signed_in.actor.id in subjects


class SignInMemory:
    """Believed only while somebody vouches for it, which `SignInWatch` does."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, now: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._now = now
        self._found: FIFOCache[str, _Remembered] = FIFOCache(MOST_REMEMBERED)
        self._trusted_until = 0.0
        self._changes = 0

    @property
    def changes(self) -> int:
        """Changes each time that something is forgotten."""
        return self._changes

    def find(self, token: str) -> SignedIn | None:
        """Return whom the token speaks for, if that's known and sure."""
        return self.recall(token) if self._clock() < self._trusted_until else None

    def recall(self, token: str) -> SignedIn | None:
        """Return whom the token spoke for a moment ago, which is nothing to let somebody in by."""
        found = self._found.get(hash_secret(token))
        if found is None or found.until <= self._now() or found.deadline <= self._clock():
            return None
        return found.signed_in

    def remember(self, token: str, signed_in: SignedIn, *, changes: int) -> None:
        """`changes` is what they were before the token was looked up: what is new since may be about this one."""
        if changes != self._changes:
            return
        expires_at, now = signed_in.expires_at.timestamp(), self._now()
        lifetime = min(expires_at - now, REMEMBERED_SECONDS)
        self._found[hash_secret(token)] = _Remembered(signed_in, now + lifetime, self._clock() + lifetime)

    def forget(self, subjects: Iterable[UUID]) -> None:
        """Forget the tokens of these sessions, API tokens and accounts."""
        if about := frozenset(subjects):
            self._changes += 1
            for name in [name for name in self._found if self._found[name].is_about(about)]:
                del self._found[name]

    def forget_all(self) -> None:
        self._changes += 1
        self._found.clear()

    def vouch(self, *, until: float) -> None:
        """What is remembered holds until this time of the clock, and no longer unless somebody vouches for it again."""
        self._trusted_until = until
