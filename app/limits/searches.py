"""How many searches one user may have going on: each takes a processor of the database for as long as it lasts."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from app.core.errors import HiveError

# By then one of those that go on is over, or has been given up.
RETRY_SECONDS = 1


class TooManySearches(HiveError):
    status = 429
    code = "too_many_searches"

    def __init__(self, most: int) -> None:
        super().__init__(
            f"You have {most} searches going on, and may not have more; try again when one is answered.",
            headers={"Retry-After": str(RETRY_SECONDS)},
        )


class Searches:
    """Of one process. They are counted for each user by themselves."""

    def __init__(self, most: int = 2) -> None:
        self._most = most
        self._going_on: Counter[UUID] = Counter()

    @contextmanager
    def one_of(self, user_id: UUID) -> Iterator[None]:
        """Search for as long as this lasts.

        Raises:
            TooManySearches: this user has as many going on as one may have.
        """
        if self._going_on[user_id] >= self._most:
            raise TooManySearches(self._most)
        self._going_on[user_id] += 1
        try:
            yield
        finally:
            self._going_on[user_id] -= 1
            if not self._going_on[user_id]:
                del self._going_on[user_id]
