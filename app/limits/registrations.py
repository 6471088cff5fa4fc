"""Registrations by strangers: so many a minute from one address, and one at a time in each process."""

from contextlib import AbstractAsyncContextManager
from functools import partial
from math import ceil

from app.core.errors import HiveError
from app.limits.memory import RecentHits
from app.limits.rules import MINUTE, Rule
from app.limits.shared import Reach, RedisAway, SharedStorage
from app.limits.turns import TooBusy, Turns


class TooManyRegistrations(HiveError):
    status = 429
    code = "too_many_registrations"

    def __init__(self, seconds: float) -> None:
        super().__init__(
            "There were too many registrations from your address; try again later.",
            headers={"Retry-After": str(max(ceil(seconds), 1))},
        )


class RegistrationLimit:
    """Counts in Redis for all processes, and in memory for when Redis is away."""

    def __init__(self, storage: SharedStorage, reach: Reach, per_minute: int) -> None:
        self._storage = storage
        self._reach = reach
        self._recent = RecentHits()
        self._turns = Turns(partial(TooBusy, "registering"))
        self._rule = Rule("registration-address", ((per_minute, MINUTE),)) if per_minute else None

    async def count(self, address: str) -> None:
        """Count one, whatever becomes of it.

        Raises:
            TooManyRegistrations: this address has had as many within a minute.
        """
        if self._rule is not None and (wait := await self._seconds_until_room(self._rule, address)):
            raise TooManyRegistrations(wait)

    async def _seconds_until_room(self, rule: Rule, address: str) -> float:
        if wait := self._recent.hit(rule, address):
            return wait
        try:
            return await self._reach.ask(partial(self._storage.take_place, rule, address))
        except RedisAway:
            return 0.0

    def turn(self) -> AbstractAsyncContextManager[None]:
        """Wait for one's turn to have a password hashed.

        There is one at a time, so a sign-in waits for one hash of a stranger at most.

        Raises:
            TooBusy: too many wait already.
        """
        return self._turns.of("hash")
