"""So many things at once for each user of this process."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

from app.core.errors import HiveError


class Places:
    """Counts for each user by themselves. `refusal` makes the error from how many one may have."""

    def __init__(self, most: int, refusal: Callable[[int], HiveError]) -> None:
        self.refused = 0
        self._most = most
        self._refusal = refusal
        self._taken: Counter[UUID] = Counter()

    @contextmanager
    def taken_by(self, user_id: UUID) -> Iterator[None]:
        """Take a place for as long as this lasts.

        Raises:
            HiveError: the refusal, when this user has all that one may have.
        """
        if self._taken[user_id] >= self._most:
            self.refused += 1
            raise self._refusal(self._most)
        self._taken[user_id] += 1
        try:
            yield
        finally:
            self._give_back(user_id)

    def _give_back(self, user_id: UUID) -> None:
        self._taken[user_id] -= 1
        if not self._taken[user_id]:
            del self._taken[user_id]
