"""Whose API tokens this process has seen at work, so that their requests count for their users.

Requests are counted before the database is asked, and an API token doesn't say whose it is. One that was never seen
counts for its address: each invented token would bring an allowance of its own otherwise.
"""

from uuid import UUID

from app.core.security import hash_secret

MOST_TOKENS = 10_000


class KnownTokens:
    def __init__(self) -> None:
        self._users: dict[str, tuple[UUID, UUID]] = {}

    def remember(self, token: str, user_id: UUID, *, person_id: UUID) -> None:
        """It was valid just now. `person_id` is the account, or of an agent its owner.

        Past the bound the one that was remembered first is forgotten.
        """
        self._users[hash_secret(token)] = user_id, person_id
        if len(self._users) > MOST_TOKENS:
            del self._users[next(iter(self._users))]

    def user_of(self, token: str) -> UUID | None:
        found = self._users.get(hash_secret(token))
        return None if found is None else found[0]

    def person_of(self, token: str) -> UUID | None:
        found = self._users.get(hash_secret(token))
        return None if found is None else found[1]
