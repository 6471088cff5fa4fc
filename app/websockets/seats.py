"""How many readers one user may have in this process: each costs memory, and time with every event."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from app.core.errors import HiveError

# As long as the longest page waits, after which its seat is free for certain.
RETRY_SECONDS = 30


class TooManyReaders(HiveError):
    status = 429
    code = "too_many_readers"

    def __init__(self, most: int) -> None:
        super().__init__(
            f"You have {most} sockets, streams and waiting pages open here, and may not have more.",
            headers={"Retry-After": str(RETRY_SECONDS)},
        )


class Seats:
    """Sockets, streams and pages that wait take one each, and they are counted together: they cost the same."""

    def __init__(self, most: int = 20) -> None:
        self.refused = 0
        self._most = most
        self._taken: Counter[UUID] = Counter()

    @contextmanager
    def taken_by(self, user_id: UUID) -> Iterator[None]:
        """Take a seat for as long as this lasts.

        Raises:
            TooManyReaders: this user has all that one may have.
        """
        if self._taken[user_id] >= self._most:
            self.refused += 1
            raise TooManyReaders(self._most)
        self._taken[user_id] += 1
        try:
            yield
        finally:
            self._give_back(user_id)

    def _give_back(self, user_id: UUID) -> None:
        self._taken[user_id] -= 1
        if not self._taken[user_id]:
            del self._taken[user_id]
