"""Time zones by their IANA names, and days in them."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from importlib.resources import files
from zoneinfo import ZoneInfo

_LAST_INSTANT = timedelta(microseconds=1)


@cache
def time_zone_names() -> frozenset[str]:
    """Return the names of all time zones: those of the package `tzdata`, so that they are the same on every machine."""
    names = files("tzdata").joinpath("zones").read_text(encoding="ascii").split()
    # The zone of a computer whose zone nobody has set.
    return frozenset(names) - {"Factory"}


@dataclass(frozen=True, slots=True)
class Day:
    """A date alone. When it begins and ends depends on where one is."""

    date: date

    def begins(self, time_zone: str) -> datetime:
        """Return the first instant of the day, in UTC. It's not midnight where the clocks skip that."""
        # The first of two midnights; and of one that is skipped, the instant at which it is.
        midnight = datetime.combine(self.date, time(), tzinfo=ZoneInfo(time_zone))
        return midnight.astimezone(UTC)

    def ends(self, time_zone: str) -> datetime:
        """Return the last instant of the day that PostgreSQL can tell from the next day: its last microsecond."""
        return Day(self.date + timedelta(days=1)).begins(time_zone) - _LAST_INSTANT
