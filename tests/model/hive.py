"""The running HIVE: an API process, the database below it, and people who are new to it."""

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import ExitStack
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

import asyncpg
import httpx2

from app.config import Settings
from app.core.security import issue_token
from app.database import Database
from app.db.transaction import Transaction
from app.models import Scope, User
from tests.builders.agents import create_agent
from tests.builders.tokens import create_token
from tests.builders.users import create_user
from tests.model.names import Names
from tests.model.nouns import Caller

T = TypeVar("T")

EVERY_SCOPE = frozenset(scope.value for scope in Scope)
ADA, BEA, CYN = (Caller(name, EVERY_SCOPE) for name in ("Ada", "Bea", "Cyn"))
ROOT = Caller("Root", EVERY_SCOPE, is_admin=True)
BOT = Caller("Bot", EVERY_SCOPE, kind="agent")
# A program that speaks for Ada, as far as it may.
SCRIPT = Caller("Ada", EVERY_SCOPE - {Scope.TASKS_WRITE})
CALLERS = (ADA, BEA, CYN, ROOT, BOT, SCRIPT)
PEOPLE = ("Ada", "Bea", "Cyn", "Root", "Bot")

TOKEN_LIFETIME = timedelta(minutes=30)
ANSWER_SECONDS = 20


class Hive:
    def __init__(self, address: str, settings: Settings, database_url: str) -> None:
        self._address = address
        self._settings = settings
        self._database_url = database_url
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        # A loop of its own, for what hypothesis calls is not asynchronous.
        self._runner = self._stack.enter_context(asyncio.Runner(loop_factory=asyncio.new_event_loop))
        # Nothing is encrypted here, and to load the certificates for it takes a while.
        client = httpx2.Client(base_url=self._address, timeout=ANSWER_SECONDS, verify=False)
        self.http = self._stack.enter_context(client)
        self.database = Database.connect(self._database_url, application="tests", pool_size=2)
        self._stack.callback(lambda: self.run(self.database.close()))
        self._connection = self.run(_connect(self._database_url))
        self._stack.callback(lambda: self.run(self._connection.close()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(coroutine)

    def sql(self, statement: str, *values: object) -> Sequence[Any]:
        """The rows of the answer, whose columns are got by name."""
        return self.run(_fetch(self._connection, statement, *values))

    def welcome(self, names: Names) -> dict[Caller, str]:
        """New people under these names, and the token of each caller."""
        return self.run(self._make_people(names))

    async def _make_people(self, names: Names) -> dict[Caller, str]:
        async with self.database.unit_of_work() as transaction:
            people = {name: await create_user(transaction, display_name=name) for name in ("Ada", "Bea", "Cyn")}
            people["Root"] = await create_user(transaction, display_name="Root", is_admin=True)
            people["Bot"] = await create_agent(transaction, owner=people["Ada"])
            for name, user in people.items():
                names.add(name, user.id)
            return {caller: await self._token_of(transaction, caller, people[caller.person]) for caller in CALLERS}

    async def _token_of(self, transaction: Transaction, caller: Caller, user: User) -> str:
        if caller in {BOT, SCRIPT}:
            return await create_token(transaction, user, scopes=map(Scope, caller.scopes))
        return issue_token(user.id, user.id, key=self._settings.jwt_key, lifetime=TOKEN_LIFETIME)


async def _connect(database_url: str) -> "asyncpg.Connection[asyncpg.Record]":
    return await asyncpg.connect(database_url)


async def _fetch(connection: "asyncpg.Connection[asyncpg.Record]", statement: str, *values: object) -> Sequence[Any]:
    return await connection.fetch(statement, *values)
