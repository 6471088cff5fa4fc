"""How many readers one user may have in this process: each costs memory, and time with every event."""

from app.core.errors import HiveError
from app.limits.places import Places

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


class Seats(Places):
    """Sockets, streams and pages that wait take one each, and they are counted together: they cost the same."""

    def __init__(self, most: int = 20) -> None:
        super().__init__(most, TooManyReaders)
