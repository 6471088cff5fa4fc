"""The pool of SQLAlchemy's sessions, under the limit that holds for the driver's own connections too. See ADR 33."""

import logging
import time
from operator import methodcaller
from typing import Any

from asyncpg import TooManyConnectionsError
from sqlalchemy.pool import ConnectionPoolEntry, Pool
from sqlalchemy.util import await_only

from app.connection_limit import ConnectionLimit, IdleConnections

# SQLAlchemy logs each connection that is closed, which here is an everyday thing.
logging.getLogger(__name__).setLevel(logging.WARNING)


class SessionPool(Pool):
    """Is used by SQLAlchemy within its greenlets."""

    def __init__(self, creator: Any, limit: ConnectionLimit, **options: Any) -> None:
        super().__init__(creator, **options)
        self._limit = limit
        self._idle = IdleConnections[ConnectionPoolEntry](methodcaller("invalidate"))
        limit.add_pool(self._idle)

    def _do_get(self) -> ConnectionPoolEntry:
        until = None
        while True:
            await_only(self._limit.take_turn())
            try:
                return self._take_idle() or self._create_connection()
            except BaseException as error:
                # SQLAlchemy's adapter has translated what the driver raised.
                if not isinstance(error.__cause__, TooManyConnectionsError):
                    self._limit.end_turn()
                    raise
                self._limit.rest_turn()
                until = until or self._limit.patience()
                if time.monotonic() > until:
                    raise

    def _take_idle(self) -> ConnectionPoolEntry | None:
        while self._idle:
            entry = self._idle.take()
            if self._is_usable(entry):
                return entry
            entry.invalidate()
        return None

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        try:
            if self._is_usable(record):
                self._idle.put(record)
            else:
                # It waits for the connection's end, and may be cancelled meanwhile.
                record.invalidate()
        finally:
            self._limit.end_turn()

    def _is_usable(self, entry: ConnectionPoolEntry) -> bool:
        connection: Any = entry.driver_connection
        return connection is not None and self._limit.is_usable(connection)

    def dispose(self) -> None:
        self._idle.close_all()

    def recreate(self) -> Pool:
        """The pool itself, which is as good as new once it was emptied."""
        return self

    def status(self) -> str:
        return f"{len(self._idle)} idle connections"
