from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from app.config import Settings
from app.core.redis import PrefixedRedis
from app.limits.address import TrustedProxies, client_of
from app.limits.bytes_sent import ByteLimit
from app.limits.known_tokens import KnownTokens
from app.limits.pace import Pace
from app.limits.registrations import RegistrationLimit
from app.limits.requests import RequestLimit
from app.limits.searches import turns_of_searches
from app.limits.shared import Reach, SharedStorage
from app.limits.sign_ins import Attempt, SignInLimit
from app.limits.turns import MOST_WAITING, TooBusy, Turns

# Of one user, where each holds a connection to the database.
AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Limits:
    """What one process limits, together with the others on the same Redis."""

    requests: RequestLimit
    pace_of_addresses: Pace
    pace_of_users: Pace
    bytes: ByteLimit
    sign_ins: SignInLimit
    registrations: RegistrationLimit
    trusted_proxies: TrustedProxies
    known_tokens: KnownTokens
    searches: Turns
    # One user who asks a hundred times at once would else have all others wait for connections behind them.
    claims: Turns
    tickets: Turns
    # Of who begins a stream, or asks for a ticket for one.
    look_ups: Turns
    # Those who claim what words say would else take turns from all other changes.
    claims_by_words: Turns
    # Each has a connection of the pool for as long as a hundred changes take.
    batches: Turns
    # Pages of events. A reader has at most one in work, and must not be refused for having others beside it.
    replays: Turns

    @classmethod
    def of(cls, settings: Settings, redis: PrefixedRedis) -> "Limits":
        storage, reach = SharedStorage(redis), Reach()
        requests = RequestLimit(storage, reach, settings.requests_per_minute)
        searches = turns_of_searches(settings.max_searches_per_user)
        return cls(
            requests,
            Pace(settings.requests_per_address_and_second, seconds_at_once=2.0),
            Pace.of_users(settings.requests_per_minute),
            ByteLimit(storage, reach, settings.bytes_per_user_and_day),
            SignInLimit(storage, reach),
            RegistrationLimit(storage, reach, settings.registrations_per_minute),
            settings.trusted_proxies,
            KnownTokens(),
            searches,
            claims=Turns(partial(TooBusy, "claiming"), at_once=AT_ONCE),
            tickets=Turns(partial(TooBusy, "asking for tickets"), at_once=AT_ONCE),
            look_ups=Turns(partial(TooBusy, "beginning to read events"), at_once=AT_ONCE),
            claims_by_words=Turns(partial(TooBusy, "searching for something to claim")),
            batches=Turns(partial(TooBusy, "changing many tasks"), at_once=AT_ONCE),
            replays=Turns(
                partial(TooBusy, "reading events"),
                at_once=AT_ONCE,
                most_waiting=max(MOST_WAITING, settings.max_sockets_per_user),
            ),
        )

    def client_of(self, scope: Mapping[str, Any]) -> str:
        return client_of(scope, self.trusted_proxies)

    def attempt_from(self, scope: Mapping[str, Any]) -> Attempt:
        return partial(self.sign_ins.attempt, self.client_of(scope))
