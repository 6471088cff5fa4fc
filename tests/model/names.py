"""Ids and times in the words of the rules: short names, and whether a time is there."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from tests.model.nouns import Event, Json, is_name_of_task

NOBODYS_ID = "nobody"
# How long tasks are claimed for. Far longer than a run takes, so that no lease ends but where the machine has it end.
LEASES = (1_800, 36_000)
# What the rules don't tell.
UNTOLD = frozenset({"created_at", "updated_at"})


class Names:
    """Which id has which name, for the people and the tasks of one run."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self.add("system", UUID(int=0))
        self.add(NOBODYS_ID, UUID(int=1))

    def add(self, name: str, each: UUID) -> None:
        self._ids[name], self._names[str(each)] = str(each), name

    def id_of(self, name: str) -> UUID:
        return UUID(self._ids[name])

    def task_ids(self) -> list[UUID]:
        return [UUID(each) for name, each in self._ids.items() if is_name_of_task(name)]

    def has(self, each: str) -> bool:
        return each in self._names

    def name(self, each: UUID | None) -> str | None:
        return None if each is None else self._names[str(each)]

    def with_ids(self, text: str) -> str:
        """What is sent: the id, if the text is a name."""
        return self._ids.get(text, text)

    def in_words(self, value: Any, key: str = "") -> Any:
        """What was received, as the rules have it."""
        if isinstance(value, dict):
            return {each: self.in_words(inner, each) for each, inner in value.items() if each not in UNTOLD}
        if isinstance(value, list):
            words = [self.in_words(inner) for inner in value]
            return sorted(words) if key == "waiting_for" else words
        if key == "completed_at":
            return value is not None
        if isinstance(value, str):
            return _lease_until(value) if key == "expires_at" else self._names.get(value, value)
        return value

    def event(self, envelope: Json) -> Event:
        """An event as REST has it. Its audience isn't told."""
        said = self.in_words(envelope)
        task, actor = said["task"], said["actor"]
        return Event(task["id"], task["version"], said["type"], actor["id"], actor["type"], None, said["data"])


def _lease_until(end: str) -> int | str:
    """For how long the lease was taken."""
    left = (datetime.fromisoformat(end) - datetime.now(UTC)).total_seconds()
    return next(seconds for seconds in LEASES if left <= seconds) if left > 0 else "over"
