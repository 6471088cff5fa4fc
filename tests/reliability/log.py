"""The log of events as PostgreSQL has it, and what readers and writers have to find in it."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from app.models import User
from tests.reliability.readers import Reader
from tests.reliability.system import ChaosSystem
from tests.reliability.writers import Ledger
from tests.utils.test_utils import wait_until_async

# A row of the table of events.
Row = Any
NUMBERING_SECONDS = 30
READING_SECONDS = 60


async def read_log(system: ChaosSystem) -> list[Row]:
    """All events in their order, as soon as each has its number."""

    async def is_numbered() -> bool:
        [row] = await system.sql("SELECT count(*) FROM events WHERE seq IS NULL")
        return bool(row[0] == 0)

    await wait_until_async(is_numbered, timeout=NUMBERING_SECONDS, what="the numbers of all events")
    return await system.sql("SELECT * FROM events ORDER BY seq")


def visible_to(user: User, log: Sequence[Row]) -> list[tuple[int, str]]:
    """What the user may see of the log: numbers and ids."""
    return [(row["seq"], str(row["id"])) for row in log if user.is_admin or _is_for(user.id, row["audience"])]


def _is_for(user_id: UUID, audience: list[UUID] | None) -> bool:
    return audience is None or user_id in audience


async def until_all_have(readers: Sequence[Reader], log: Sequence[Row]) -> None:
    """Wait until each reader has the last event that it may see."""
    last = {id(reader): visible_to(reader.user, log)[-1][0] for reader in readers}

    async def have_all() -> bool:
        return all(reader.events and reader.events[-1][0] >= last[id(reader)] for reader in readers)

    await wait_until_async(have_all, timeout=READING_SECONDS, what="all readers at the end of the log")


def check_log(log: Sequence[Row]) -> None:
    """Numbers have no gap, and those of one task are in the order of its versions, which have none either."""
    assert [row["seq"] for row in log] == list(range(1, len(log) + 1))
    versions: dict[UUID, list[int]] = defaultdict(list)
    for row in log:
        if row["task_version"]:
            versions[row["task_id"]].append(row["task_version"])
    assert [found for found in versions.values() if found != list(range(1, len(found) + 1))] == []


def check_readers(readers: Sequence[Reader], log: Sequence[Row]) -> None:
    """Each got what its user may see and nothing else, once and in order."""
    for number, reader in enumerate(readers):
        expected = visible_to(reader.user, log)
        if reader.events != expected:
            raise AssertionError(f"reader {number}, a {reader.kind}: {_difference(reader.events, expected)}")
        assert reader.faults == []


def _difference(got: Sequence[tuple[int, str]], expected: Sequence[tuple[int, str]]) -> str:
    lost, foreign = sorted(set(expected) - set(got)), sorted(set(got) - set(expected))
    repeated = [event for event, times in Counter(got).items() if times > 1]
    return f"lost {lost[:10]}, foreign {foreign[:10]}, repeated {repeated[:10]}, or else in disorder"


def check_ledger(ledger: Ledger, log: Sequence[Row]) -> None:
    """What was answered is in the log once; what was not is in it once, or it did not happen."""
    assert ledger.faults == []
    texts = Counter(text for row in log if (text := text_of(row)))
    assert {text: texts[text] for text in ledger.texts if texts[text] != 1} == {}
    assert {text: texts[text] for text in ledger.unanswered_texts if texts[text] > 1} == {}
    assert set(texts) <= {*ledger.texts, *ledger.unanswered_texts}
    versions = Counter((str(row["task_id"]), row["task_version"]) for row in log)
    assert {one: versions[one] for one in ledger.versions if versions[one] != 1} == {}
    deleted = Counter(str(row["task_id"]) for row in log if row["type"] == "task.deleted")
    assert {task: deleted[task] for task in ledger.deleted if deleted[task] != 1} == {}


def text_of(row: Row) -> str:
    """The text that its writer has made for this one event."""
    data = json.loads(row["data"])
    match row["type"]:
        case "task.created":
            return str(data["title"])
        case "task.updated":
            return str(data["changed"]["title"])
        case "chat.message":
            return str(data["message"])
    return ""
