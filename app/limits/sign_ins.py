"""Failed sign-ins: so many a minute from one address, and for one account."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from math import ceil
from typing import TypeVar

from limits import RateLimitItem, RateLimitItemPerMinute

from app.core.errors import HiveError
from app.limits.memory import RecentHits
from app.limits.shared import Reach, RedisAway, SharedStorage
from app.limits.turns import Turns

T = TypeVar("T")

PER_ADDRESS = RateLimitItemPerMinute(10, namespace="sign-in-address")
PER_ACCOUNT = RateLimitItemPerMinute(5, namespace="sign-in-account")
# A moment's stall must not leave a place taken for good, and who signs in waits for a hash anyway.
PATIENCE_SECONDS = 1.0
# What the answers to a wrong secret have for a status. Other answers say nothing about it.
FAILURES = frozenset({401, 403})

# One try at the secret of an account, given the key of its address, or at one that names no account (None). What
# is done within it is not done at all past the limit; if it ends in one of `FAILURES`, it counts.
Attempt = Callable[[str | None], AbstractAsyncContextManager[None]]


class TooManyAttempts(HiveError):
    """Says nothing of what was reached, the address's limit or the account's, nor whether there is such an account."""

    status = 429
    code = "too_many_attempts"

    def __init__(self, seconds: float) -> None:
        super().__init__(
            "There were too many failed sign-ins; try again later.",
            headers={"Retry-After": str(max(ceil(seconds), 1))},
        )


@dataclass(slots=True)
class _Place:
    """One place in a window, taken before it's known whether the attempt fails."""

    limit: RateLimitItemPerMinute
    identifier: str
    is_shared: bool = False

    @property
    def name(self) -> str:
        return self.limit.key_for(self.identifier)


class SignInLimit:
    """Counts in Redis for all processes, and in memory for when Redis is away."""

    def __init__(self, storage: SharedStorage, reach: Reach, recent: RecentHits | None = None) -> None:
        self._storage = storage
        self._reach = reach
        self._recent = recent or RecentHits()
        self._turns = Turns()

    @asynccontextmanager
    async def attempt(self, address: str, account: str | None) -> AsyncIterator[None]:
        """A place is taken beforehand, so that many attempts at once can't all pass, and given back after success.

        In each process attempts from one address, and for one account, wait for each other. Nothing is slower for
        that, since passwords are checked one by one anyway; but a few right ones at once would else take all places.

        Raises:
            TooManyAttempts: as many as may have failed within a minute.
        """
        places = [_Place(PER_ADDRESS, address)]
        if account is not None:
            # Redis need not know who signs in, and a name of any length is as short.
            places.append(_Place(PER_ACCOUNT, sha256(account.encode(errors="replace")).hexdigest()))
        async with AsyncExitStack() as turns:
            for place in places:
                await turns.enter_async_context(self._turns.of(place.name))
            await self._take_all(places)
            has_failed = False
            try:
                yield
            except HiveError as error:
                has_failed = error.status_code in FAILURES
                raise
            finally:
                if not has_failed:
                    await self._give_back(places)

    async def _take_all(self, places: list[_Place]) -> None:
        for number, place in enumerate(places):
            if wait := await self._take(place):
                # An attempt that isn't made doesn't count either, or trying on would lock out for ever.
                await self._give_back(places[:number])
                raise TooManyAttempts(wait)

    async def _take(self, place: _Place) -> float:
        """Seconds until there is a place; 0 if there was one, and it's taken."""
        if wait := self._recent.hit(place.limit, place.identifier):
            return wait
        try:
            wait = await self._ask(self._storage.take_place, place)
        except RedisAway:
            return 0.0
        place.is_shared = not wait
        if wait:
            self._recent.give_back(place.limit, place.identifier)
        return wait

    async def _give_back(self, places: list[_Place]) -> None:
        for place in places:
            self._recent.give_back(place.limit, place.identifier)
            if place.is_shared:
                # Without Redis it goes on counting as a failure, for a minute at most.
                with suppress(RedisAway):
                    await self._ask(self._storage.give_back, place)

    async def _ask(self, question: Callable[[RateLimitItem, str], Awaitable[T]], place: _Place) -> T:
        return await self._reach.ask(partial(question, place.limit, place.identifier), patience=PATIENCE_SECONDS)
