"""Requests of all kinds: so many a minute for one caller."""

from dataclasses import dataclass
from functools import partial
from math import ceil
from uuid import UUID

from limits import RateLimitItemPerMinute

from app.core.errors import HiveError
from app.limits.shared import Reach, RedisAway, SharedStorage, SlidingWindow


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a caller has left: `remaining` requests within the next `seconds`."""

    is_granted: bool
    limit: RateLimitItemPerMinute
    remaining: int
    seconds: int

    @classmethod
    def of(cls, limit: RateLimitItemPerMinute, window: SlidingWindow, *, is_granted: bool) -> "Allowance":
        if not is_granted:
            return cls(is_granted, limit, 0, max(ceil(_seconds_until_room(limit, window)), 1))
        # As the library weighs them.
        carried_over = int(window.previous * window.previous_seconds_left / limit.get_expiry())
        remaining = max(limit.amount - carried_over - window.current, 0)
        return cls(is_granted, limit, remaining, max(ceil(_seconds_until_shift(limit, window)), 1))

    def headers(self) -> dict[str, str]:
        """As draft-ietf-httpapi-ratelimit-headers-11 has them (May 2026)."""
        return {
            "RateLimit-Policy": f'"requests";q={self.limit.amount};w={self.limit.get_expiry()}',
            "RateLimit": f'"requests";r={self.remaining};t={self.seconds}',
        }


class TooManyRequests(HiveError):
    status = 429
    code = "too_many_requests"

    def __init__(self, allowance: Allowance) -> None:
        super().__init__(
            f"You have made {allowance.limit.amount} requests within a minute, and may not make more.",
            headers={"Retry-After": str(allowance.seconds)},
        )


class RequestLimit:
    """Counts in Redis for all processes. While Redis is away nobody is refused."""

    def __init__(self, storage: SharedStorage, reach: Reach, per_minute: int) -> None:
        self._storage = storage
        self._reach = reach
        self._limit = RateLimitItemPerMinute(per_minute, namespace="requests") if per_minute else None

    async def count(self, caller: str) -> Allowance | None:
        """Count a request, unless it's one too many; None where nothing is counted."""
        if (limit := self._limit) is None:
            return None
        try:
            is_granted, window = await self._reach.ask(partial(self._storage.hit_and_look, limit, caller))
        except RedisAway:
            return None
        return Allowance.of(limit, window, is_granted=is_granted)

    async def charge(self, caller: str) -> None:
        """Raises `TooManyRequests` instead of telling about it."""
        allowance = await self.count(caller)
        if allowance is not None and not allowance.is_granted:
            raise TooManyRequests(allowance)


def caller_of_user(user_id: UUID) -> str:
    return f"user/{user_id}"


def caller_at(address: str) -> str:
    """Whoever isn't signed in."""
    return f"address/{address}"


def _seconds_until_room(limit: RateLimitItemPerMinute, window: SlidingWindow) -> float:
    """Until the past minute has lost enough of its weight, or the one that runs is past."""
    room = limit.amount - window.current
    if room <= 0 or not window.previous:
        return _seconds_until_shift(limit, window)
    return window.previous_seconds_left - room * limit.get_expiry() / window.previous


def _seconds_until_shift(limit: RateLimitItemPerMinute, window: SlidingWindow) -> float:
    return window.current_seconds_left - limit.get_expiry()
