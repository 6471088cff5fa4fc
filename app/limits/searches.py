"""How many searches one user may have going on: each takes a processor of the database for as long as it lasts."""

from functools import partial

from app.core.errors import HiveError
from app.limits.turns import Turns

# Most searches take milliseconds, so that one who asks for three at once gets all three.
PATIENCE_SECONDS = 1.0
MOST_WAITING = 4
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


def turns_of_searches(most: int) -> Turns:
    """Of lists of tasks that are looked for by words. Nothing of the database is held by one that waits."""
    return Turns(partial(TooManySearches, most), at_once=most, most_waiting=MOST_WAITING, patience=PATIENCE_SECONDS)
