"""Services as requests and jobs use them: each call in a transaction of its own, which is committed after it."""

from collections.abc import Awaitable, Callable
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from app.database import Database
from app.db.transaction import Transaction

Service = TypeVar("Service")
Given = ParamSpec("Given")
Answer = TypeVar("Answer")


class Serving:
    """`await serving(TaskService).create(actor, body)`, and `await serving.do(mark_done, job_id)` for functions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def __call__(self, make: Callable[[Transaction], Service]) -> Service:
        """The service, each of whose methods begins and commits a transaction."""
        return cast("Service", _EachCall(self._database, make))

    async def do(
        self,
        function: Callable[Concatenate[Transaction, Given], Awaitable[Answer]],
        *args: Given.args,
        **kwargs: Given.kwargs,
    ) -> Answer:
        """Call a function that takes a transaction first."""
        async with self._database.unit_of_work() as transaction:
            return await function(transaction, *args, **kwargs)


class _EachCall:
    def __init__(self, database: Database, make: Callable[[Transaction], object]) -> None:
        self._database = database
        self._make = make

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            async with self._database.unit_of_work() as transaction:
                return await getattr(self._make(transaction), name)(*args, **kwargs)

        return call
