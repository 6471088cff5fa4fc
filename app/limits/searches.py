"""How many searches one user may have going on: each takes a processor of the database for as long as it lasts."""

from app.core.errors import HiveError
from app.limits.places import Places

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


class Searches(Places):
    """Lists of tasks that are looked for by words."""

    def __init__(self, most: int = 2) -> None:
        super().__init__(most, TooManySearches)
