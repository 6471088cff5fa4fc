"""Where calls are measured: a PostgreSQL and a Valkey for the benchmark, databases with rows, API processes on them.

There is no relay and no worker here, so that the answer to a request is all that is measured. `own_system.py` has a
whole HIVE.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Self

import asyncpg

from app import embedded
from app.core.security import hash_password
from app.migrate import migrate_database
from bench.own_system import settings_of_benchmark
from bench.people import PASSWORD, sign_in
from bench.processes import Listening, listening
from bench.progress import tell
from bench.rows import Rows
from tests.utils.processes import free_port

TEMPLATE = "migrated"


@dataclass(frozen=True, slots=True)
class Site:
    """A database with so many tasks, an API process on it, and access tokens of the first people."""

    tasks: int
    database_url: str
    api: Listening
    tokens: Sequence[str]


@dataclass
class Stage:
    data_dir: str
    environment: Mapping[str, str]
    password_hash: str
    _databases: int = 0
    _made: set[str] = field(default_factory=set)

    @classmethod
    @asynccontextmanager
    async def set_up(cls) -> AsyncIterator[Self]:
        with tempfile.TemporaryDirectory(prefix="hive-bench-") as folder:
            servers = await asyncio.to_thread(embedded.join, folder)
            try:
                stage = cls(folder, settings_of_benchmark(folder), await hash_password(PASSWORD))
                await stage._run(f"CREATE DATABASE {TEMPLATE}")
                await asyncio.to_thread(migrate_database, stage.address_of(TEMPLATE))
                yield stage
            finally:
                await asyncio.to_thread(servers.leave)

    def address_of(self, name: str) -> str:
        return embedded.database_url(self.data_dir).replace("/hive?", f"/{name}?")

    @property
    def redis_url(self) -> str:
        return embedded.redis_url(self.data_dir)

    @asynccontextmanager
    async def site(self, tasks: int, *, people: int = 8) -> AsyncIterator[Site]:
        """A new database and an API process on it."""
        template = await self._rows(tasks)
        self._databases += 1
        name = f"{template}_{self._databases}"
        await self._run(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        async with self.further_api(self.address_of(name)) as api:
            yield Site(tasks, self.address_of(name), api, await sign_in(api.address, people))
        await self._run(f"DROP DATABASE {name} WITH (FORCE)")

    @asynccontextmanager
    async def further_api(self, database_url: str) -> AsyncIterator[Listening]:
        environment = {**self.environment, "DATABASE_URL": database_url, "REDIS_URL": self.redis_url}
        async with listening(environment, ["app.cli", "api"], free_port()) as api:
            yield api

    @asynccontextmanager
    async def ceiling(self, module: str, *arguments: str) -> AsyncIterator[Listening]:
        """A bare server, told its port and then these arguments."""
        port = free_port()
        command = [f"bench.ceilings.{module}", str(port), *arguments]
        async with listening(self.environment, command, port) as process:
            yield process

    async def _rows(self, tasks: int) -> str:
        """The database that those with so many tasks are copies of."""
        name = f"tasks_{tasks}"
        if name not in self._made:
            tell(f"making {tasks:,} tasks")
            await self._run(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
            await Rows(self.address_of(name)).make(tasks, password_hash=self.password_hash)
            self._made.add(name)
        return name

    async def _run(self, statement: str) -> None:
        connection = await asyncpg.connect(embedded.database_url(self.data_dir))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()
