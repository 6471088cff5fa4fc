"""When a day begins and ends, also where the clocks are changed."""

from datetime import UTC, date, datetime, timedelta

import pytest

from app.core.time_zones import Day

LAST = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("day", "time_zone", "begins", "ends_before"),
    [
        ("2026-12-24", "UTC", "2026-12-24T00:00", "2026-12-25T00:00"),
        ("2026-12-24", "Europe/Berlin", "2026-12-23T23:00", "2026-12-24T23:00"),
        ("2026-12-24", "Pacific/Kiritimati", "2026-12-23T10:00", "2026-12-24T10:00"),
        ("2026-12-24", "Etc/GMT+12", "2026-12-24T12:00", "2026-12-25T12:00"),
        ("2026-12-24", "Asia/Kathmandu", "2026-12-23T18:15", "2026-12-24T18:15"),
        # A day of 23 hours, and one of 25.
        ("2026-03-29", "Europe/Berlin", "2026-03-28T23:00", "2026-03-29T22:00"),
        ("2026-10-25", "Europe/Berlin", "2026-10-24T22:00", "2026-10-25T23:00"),
        # Midnight is skipped: the day begins at one o'clock, and so the day before ends at that instant.
        ("2018-11-04", "America/Sao_Paulo", "2018-11-04T03:00", "2018-11-05T02:00"),
        ("2018-11-03", "America/Sao_Paulo", "2018-11-03T03:00", "2018-11-04T03:00"),
        # At the end of the day its last hour comes twice.
        ("2018-02-17", "America/Sao_Paulo", "2018-02-17T02:00", "2018-02-18T03:00"),
        # The first hour of the day comes twice.
        ("2025-11-02", "America/Havana", "2025-11-02T04:00", "2025-11-03T05:00"),
        # Half an hour.
        ("2026-04-05", "Australia/Lord_Howe", "2026-04-04T13:00", "2026-04-05T13:30"),
    ],
)
def test_day_begins_and_ends_in_its_time_zone(day: str, time_zone: str, begins: str, ends_before: str) -> None:
    found = Day(date.fromisoformat(day))

    assert found.begins(time_zone) == datetime.fromisoformat(begins).replace(tzinfo=UTC)
    assert found.ends(time_zone) == datetime.fromisoformat(ends_before).replace(tzinfo=UTC) - LAST


def test_day_that_a_place_has_skipped_ends_when_it_would_have_begun() -> None:
    # Samoa went from the 29th to the 31st.
    skipped, before = Day(date(2011, 12, 30)), Day(date(2011, 12, 29))

    assert skipped.ends("Pacific/Apia") == before.ends("Pacific/Apia")
