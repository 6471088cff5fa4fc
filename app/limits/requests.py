"""Requests of all kinds: so many a minute for one caller."""

from functools import partial
from uuid import UUID

from limits import RateLimitItemPerMinute

from app.core.errors import HiveError
from app.limits.allowance import Allowance
from app.limits.leases import Lease, Leases
from app.limits.shared import Reach, RedisAway, SharedStorage, SlidingWindow


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
        self._leases = Leases(per_minute)

    async def count(self, caller: str) -> Allowance | None:
        """Count a request, unless it's one too many; None where nothing is counted."""
        if (limit := self._limit) is None:
            return None
        lease = self._leases.of(caller)
        if allowance := lease.take():
            return allowance
        # Who asks whether Redis is back has the turn meanwhile, and nobody waits for that.
        if self._reach.is_resting:
            return None
        # One of them asks for all that wait here.
        async with lease.turn:
            if allowance := lease.take():
                return allowance
            try:
                return await self._lease(limit, caller, lease)
            except RedisAway:
                return None

    async def _lease(self, limit: RateLimitItemPerMinute, caller: str, lease: Lease) -> Allowance:
        size = lease.next_size()
        is_granted, window = await self._ask(limit, caller, size)
        if not is_granted and size > 1:
            # So many are not left, but one may be.
            size = 1
            is_granted, window = await self._ask(limit, caller, size)
        allowance = Allowance.of(limit, window, is_granted=is_granted, unused=size - 1)
        if is_granted:
            lease.begin(size, allowance)
        else:
            lease.refuse()
        return allowance

    async def _ask(self, limit: RateLimitItemPerMinute, caller: str, amount: int) -> tuple[bool, SlidingWindow]:
        return await self._reach.ask(partial(self._storage.hit_and_look, limit, caller, amount))

    async def count_further(self, caller: str, amount: int) -> None:
        """Count so many more at once, for a request that does as much as many.

        Raises:
            TooManyRequests: so many are not left. Nothing was counted.
        """
        if (limit := self._limit) is None or amount <= 0 or self._reach.is_resting:
            return
        # What is larger than a whole minute could never be asked for. The request itself is counted already.
        amount = min(amount, limit.amount - 1)
        try:
            is_granted, window = await self._ask(limit, caller, amount)
        except RedisAway:
            return
        if not is_granted:
            raise TooManyRequests(Allowance.of(limit, window, is_granted=False))

    async def charge(self, caller: str) -> None:
        """Raises `TooManyRequests` instead of telling about it."""
        allowance = await self.count(caller)
        if allowance is not None and not allowance.is_granted:
            raise TooManyRequests(allowance)


def caller_of_user(user_id: UUID) -> str:
    return f"user/{user_id}"


def caller_at(address: str) -> str:
    """The callers at an address who aren't signed in."""
    return f"address/{address}"
