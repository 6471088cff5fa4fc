"""What a service asks of a session: SQLAlchemy's has it, and `QuickSession`, which has hardly more."""

from collections.abc import Awaitable, Iterable, Mapping
from typing import Any, Protocol

from sqlalchemy import Executable

Given = Mapping[str, object]

# Set on a session's `info` by whoever wrote something that the relay should carry on after the commit.
WAKES_RELAY = "wakes_relay"
# The same by whoever ended sessions, tokens or accounts: their ids, which this process shall know of at once.
ENDED_SIGN_INS = "ended_sign_ins"


class Nested(Protocol):
    """What stands behind a `Savepoint`."""

    @property
    def is_active(self) -> bool:
        """Whether it was neither undone nor released."""

    async def rollback(self) -> None: ...

    async def commit(self) -> None: ...


class Rows(Protocol):
    """For who adds rows and reads none."""

    @property
    def info(self) -> dict[Any, Any]:
        """What is to be done after the commit."""

    def add(self, row: object, /) -> None: ...


class Session(Rows, Protocol):
    async def scalar(self, statement: Executable, params: Given | None = None, /) -> Any: ...

    async def scalars(self, statement: Executable, params: Given | None = None, /) -> Iterable[Any]: ...

    async def execute(self, statement: Executable, params: Given | None = None, /) -> Iterable[Any]: ...

    async def delete(self, row: object, /) -> None: ...

    async def flush(self) -> None: ...

    def begin_nested(self) -> Awaitable[Nested]: ...
