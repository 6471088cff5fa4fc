from dataclasses import dataclass, replace
from math import ceil

from limits import RateLimitItem

from app.limits.shared import SlidingWindow


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a caller has left: `remaining` requests within the next `seconds`."""

    is_granted: bool
    limit: RateLimitItem
    remaining: int
    seconds: int

    @classmethod
    def of(cls, limit: RateLimitItem, window: SlidingWindow, *, is_granted: bool, unused: int = 0) -> "Allowance":
        """`unused` are counted in the window already, and still to be had."""
        if not is_granted:
            return cls(is_granted, limit, 0, max(ceil(_seconds_until_room(limit, window)), 1))
        # As the library weighs them.
        carried_over = int(window.previous * window.previous_seconds_left / limit.get_expiry())
        remaining = max(limit.amount - carried_over - window.current, 0) + unused
        return cls(is_granted, limit, remaining, max(ceil(_seconds_until_shift(limit, window)), 1))

    def headers(self) -> dict[str, str]:
        """As draft-ietf-httpapi-ratelimit-headers-11 has them (May 2026)."""
        return {
            "RateLimit-Policy": f'"requests";q={self.limit.amount};w={self.limit.get_expiry()}',
            "RateLimit": f'"requests";r={self.remaining};t={self.seconds}',
        }

    def after(self, further: int, *, seconds: float) -> "Allowance":
        """As it is when so many more were made, so long after."""
        return replace(self, remaining=self.remaining - further, seconds=max(ceil(self.seconds - seconds), 1))


def _seconds_until_room(limit: RateLimitItem, window: SlidingWindow) -> float:
    """Until the past minute has lost enough of its weight, or the one that runs is past."""
    room = limit.amount - window.current
    if room <= 0 or not window.previous:
        return _seconds_until_shift(limit, window)
    return window.previous_seconds_left - room * limit.get_expiry() / window.previous


def _seconds_until_shift(limit: RateLimitItem, window: SlidingWindow) -> float:
    return window.current_seconds_left - limit.get_expiry()
