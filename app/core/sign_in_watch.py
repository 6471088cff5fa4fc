"""Seeing within a second what has ended, in each process, whether or not the relay and Redis are there. See ADR 26."""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy import func

from app.core.errors import HiveError
from app.core.sign_in_memory import SignInMemory
from app.database import Database
from app.db.purging import purge_some
from app.db.transaction import Transaction
from app.models import SignInChange

LOOK_SECONDS = 0.3
# From the beginning of a look on. A second is promised, and an answer that was let in before takes its time.
TRUSTED_SECONDS = 0.9
# What a process remembers is minutes old at most, so no process has need of older ones.
KEEP_CHANGES = timedelta(hours=1)
# What a table that was emptied whole notes: it's about everybody.
EVERYBODY = UUID(int=0)
# One statement, and so one state of the database.
LOOK = """
SELECT pg_backend_pid(),
       pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
       array(SELECT id FROM sign_in_changes WHERE xact >= $1 ORDER BY id),
       array(SELECT subject FROM sign_in_changes WHERE xact >= $1 ORDER BY id)
"""

log = structlog.stdlib.get_logger(__name__)


class SignInWatch:
    """Looks what has changed, again and again, and vouches for the memory as long as it can see that."""

    def __init__(
        self, database: Database, memory: SignInMemory, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._memory = memory
        self._clock = clock
        # Transactions below it were over at the last look, and all that they have changed was seen.
        self._horizon: int | None = None
        self._backend = 0
        self._seen: frozenset[int] = frozenset()

    async def run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Forget what has changed since the last look."""
        began = self._clock()
        try:
            backend, horizon, found = await self._read()
        except HiveError as error:
            if self._horizon is not None:
                log.warning("tokens are looked up for each request until it can be seen again what has ended")
                log.debug("what has ended can't be seen", reason=error.reason)
            # Who was away begins anew, for it may be another database that comes back.
            self._horizon = None
            return
        new = frozenset(subject for number, subject in found.items() if number not in self._seen)
        if self._is_elsewhere(backend, horizon) or EVERYBODY in new:
            self._memory.forget_all()
        else:
            self._memory.forget(new)
        self._backend, self._horizon, self._seen = backend, horizon, frozenset(found)
        self._memory.vouch(until=began + TRUSTED_SECONDS)

    def _is_elsewhere(self, backend: int, horizon: int) -> bool:
        """Whether it may be another database than at the last look: one that was restored and took the other's name."""
        # Within a connection it's the same, and its numbers only rise.
        return self._horizon is None or backend != self._backend or horizon < self._horizon

    async def _read(self) -> tuple[int, int, dict[int, UUID]]:
        """The server that was asked, the number that all transactions that are not over have at least, and the changes
        by those that weren't over at the last look.

        An identity won't do for a position: a number is given before the commit, and a reader who has seen a higher one
        would never see it.
        """
        row = await self._database.read(LOOK, [self._horizon])
        assert row is not None
        backend, horizon, numbers, subjects = row
        return backend, horizon, dict(zip(numbers, subjects, strict=True))


async def purge_sign_in_changes(transaction: Transaction) -> bool:
    """Forget some of what every process has seen long ago; whether there may be more."""
    is_old = SignInChange.created_at < func.now() - KEEP_CHANGES
    return await purge_some(transaction, SignInChange, is_old, order=SignInChange.id)
