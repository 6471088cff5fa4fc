"""How much may come in within a second, and at once."""


class TokenBucket:
    """Holds up to `capacity` tokens and gets `rate` of them a second. Spending may leave a debt, which has to be paid
    off before anything else."""

    __slots__ = ("_capacity", "_rate", "_tokens", "_updated_at")

    def __init__(self, rate: float, capacity: float, now: float) -> None:
        self._rate = rate
        self._capacity = capacity
        self._tokens = capacity
        self._updated_at = now

    def spend(self, tokens: float, now: float) -> None:
        self._refill(now)
        self._tokens -= tokens

    def spend_after(self, now: float, *, tokens: float = 1, most_seconds: float) -> float | None:
        """Spend tokens, and tell how long it takes to pay off what was spent before; None if that's too long."""
        self._refill(now)
        seconds = -self._tokens / self._rate if self._tokens < 0 else 0.0
        if seconds > most_seconds:
            return None
        self._tokens -= tokens
        return seconds

    def seconds_in_debt(self, now: float) -> float:
        """How long it takes until there are tokens again; 0 if there are some."""
        self._refill(now)
        return max(-self._tokens / self._rate, 0.0)

    def _refill(self, now: float) -> None:
        self._tokens = min(self._tokens + (now - self._updated_at) * self._rate, self._capacity)
        self._updated_at = now
