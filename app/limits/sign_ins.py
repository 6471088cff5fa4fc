"""Failed sign-ins: so many from one address, and for one account. See ADR 45."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from math import ceil
from typing import TypeVar

from app.core.errors import HiveError
from app.limits.memory import RecentHits
from app.limits.rules import DAY, HOUR, MINUTE, Rule
from app.limits.shared import Reach, RedisAway, SharedStorage
from app.limits.turns import Turns

T = TypeVar("T")

PER_ADDRESS = Rule("sign-in-address", ((10, MINUTE),))
PER_ACCOUNT = Rule("sign-in-account", ((5, MINUTE), (20, HOUR), (50, DAY)))
# So many failures within a day are worth telling the account's owner.
MANY = 5
# For so long an address from which somebody has signed in is known to be theirs.
KNOWN_SECONDS = 30 * DAY
# A moment's stall must not leave a place taken for good, and who signs in waits for a hash anyway.
PATIENCE_SECONDS = 1.0
# What the answers to a wrong secret have for a status. Other answers say nothing about it.
FAILURES = frozenset({401, 403})

# One try at the secret of an account, given the key of its address, or at one that names no account (None). What
# is done within it is not done at all past the limit; if it ends in one of `FAILURES`, it counts.
Attempt = Callable[[str | None], AbstractAsyncContextManager["Tally"]]


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
class Tally:
    """After a failed attempt: whether there were `MANY` within a day."""

    are_many: bool = False


@dataclass(slots=True)
class _Place:
    """One place in the windows of a rule, taken before it's known whether the attempt fails."""

    limit: Rule
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
    async def attempt(self, address: str, account: str | None) -> AsyncIterator[Tally]:
        """A place is taken beforehand, so that many attempts at once can't all pass, and given back after success.

        In each process attempts from one address, and for one account, wait for each other. Nothing is slower for
        that, since passwords are checked one by one anyway; but a few right ones at once would else take all places.

        Raises:
            TooManyAttempts: as many as may have failed.
        """
        places, tally = [_Place(PER_ADDRESS, address)], Tally()
        if account is not None:
            places.append(_Place(PER_ACCOUNT, await self._name_of(account, address)))
        async with AsyncExitStack() as turns:
            for place in places:
                await turns.enter_async_context(self._turns.of(place.name))
            await self._take_all(places)
            has_failed = False
            try:
                yield tally
            except HiveError as error:
                has_failed = error.status_code in FAILURES
                tally.are_many = has_failed and account is not None and await self._count(places[-1]) >= MANY
                raise
            else:
                if account is not None:
                    await self._know(account, address)
            finally:
                if not has_failed:
                    await self._give_back(places)

    async def _name_of(self, account: str, address: str) -> str:
        """Under which failures are counted: those from an address that is known to be the account's owner's, alone.

        So strangers who try passwords lock out strangers, and not the owner where they usually are.
        """
        # Redis need not know who signs in, and a name of any length is as short.
        at_address, anywhere = _hash(f"{account} {address}"), _hash(account)
        with suppress(RedisAway):
            known = partial(self._storage.remembers, _known_name(at_address))
            if await self._reach.ask(known, patience=PATIENCE_SECONDS):
                return at_address
        return anywhere

    async def _know(self, account: str, address: str) -> None:
        name = _known_name(_hash(f"{account} {address}"))
        with suppress(RedisAway):
            known = partial(self._storage.remember, name, seconds=KNOWN_SECONDS)
            await self._reach.ask(known, patience=PATIENCE_SECONDS)

    async def _count(self, place: _Place) -> int:
        with suppress(RedisAway):
            return await self._ask(self._storage.count, place)
        return self._recent.count(place.limit, place.identifier)

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
                # Without Redis it goes on counting as a failure, as long as its windows last.
                with suppress(RedisAway):
                    await self._ask(self._storage.give_back, place)

    async def _ask(self, question: Callable[[Rule, str], Awaitable[T]], place: _Place) -> T:
        return await self._reach.ask(partial(question, place.limit, place.identifier), patience=PATIENCE_SECONDS)


def _hash(text: str) -> str:
    return sha256(text.encode(errors="replace")).hexdigest()


def _known_name(at_address: str) -> str:
    return f"known-sign-in/{at_address}"
