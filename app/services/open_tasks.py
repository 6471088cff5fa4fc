"""How many open tasks one account may own."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from cachetools import LRUCache

from app.core.errors import Conflict
from app.database import Database

# Of a task that is made, this is asked before its transaction, which is a single statement. The limit ends the count.
COUNT = """
SELECT count(*) FROM (SELECT FROM tasks WHERE owner_id = $1 AND status <> 'completed' LIMIT $2) AS open
"""
# How long a count is good. Much room lasts: then it's as long as half of it would, however fast tasks are made.
MINUTE = 60.0
MOST_MINUTES = 30.0
# Who is refused and has completed some meanwhile is let in again after so long.
COUNTED_AGAIN_AFTER = 2.0
MOST_ACCOUNTS = 10_000


class TooManyTasks(Conflict):
    code = "too_many_tasks"

    def __init__(self, most: int) -> None:
        super().__init__(
            f"You own {most} open tasks or nearly as many, and may not have more (OPEN_TASKS_PER_USER);"
            " complete or delete some first."
        )


@dataclass(slots=True)
class _Room:
    """How many more an account may make, as far as this process knows."""

    left: int = 0
    counted_at: float = 0.0
    until: float = 0.0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class OpenTasks:
    """Remembers for each account how many more it may make, so that few tasks cost a count."""

    def __init__(
        self, database: Database, most: int, *, per_minute: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`per_minute` is how many tasks one account can make within a minute at all processes together; 0 is any."""
        self._database = database
        self._most = most
        self._per_minute = per_minute
        self._clock = clock
        self._rooms: LRUCache[UUID, _Room] = LRUCache(MOST_ACCOUNTS)

    async def require_room(self, owner_id: UUID, *, tasks: int = 1) -> None:
        """Take room for so many new tasks.

        Raises:
            TooManyTasks: there is none.
        """
        if not self._most or not tasks:
            return
        room = self._room_of(owner_id)
        if self._is_to_be_counted(room, tasks):
            async with room.turn:
                if self._is_to_be_counted(room, tasks):
                    await self._count(owner_id, room)
        if room.left < tasks:
            raise TooManyTasks(self._most)
        room.left -= tasks

    def _is_to_be_counted(self, room: _Room, tasks: int) -> bool:
        now = self._clock()
        return now >= room.until or (room.left < tasks and now >= room.counted_at + COUNTED_AGAIN_AFTER)

    async def _count(self, owner_id: UUID, room: _Room) -> None:
        row = await self._database.read(COUNT, [owner_id, self._most])
        assert row is not None
        room.left = self._most - int(row[0])
        room.counted_at = self._clock()
        room.until = room.counted_at + MINUTE * self._minutes_until_half(room.left)

    def _minutes_until_half(self, left: int) -> float:
        if not self._per_minute:
            return 1.0
        return min(max(left / self._per_minute / 2, 1.0), MOST_MINUTES)

    def _room_of(self, owner_id: UUID) -> _Room:
        if owner_id not in self._rooms:
            self._rooms[owner_id] = _Room()
        return self._rooms[owner_id]
