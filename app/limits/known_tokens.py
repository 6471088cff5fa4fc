"""Whose API tokens this process has seen at work, so that their requests count for their users.

Requests are counted before the database is asked, and an API token doesn't say whose it is. One that was never seen
counts for its address: each invented token would bring an allowance of its own otherwise.
"""

from typing import NamedTuple
from uuid import UUID

from cachetools import FIFOCache

from app.core.security import hash_secret

MOST_TOKENS = 10_000


class KnownCaller(NamedTuple):
    """The account that a token speaks for, and the person: the account itself, or of an agent its owner."""

    user_id: UUID
    person_id: UUID


class KnownTokens:
    def __init__(self) -> None:
        self._callers: FIFOCache[str, KnownCaller] = FIFOCache(MOST_TOKENS)

    def remember(self, token: str, caller: KnownCaller) -> None:
        """It was valid just now. Past the bound the one for which that was said longest ago is forgotten."""
        self._callers[hash_secret(token)] = caller

    def find(self, token: str) -> KnownCaller | None:
        return self._callers.get(hash_secret(token))
