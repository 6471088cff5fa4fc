"""A whole HIVE of real processes for one scenario, made to be damaged."""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncpg
import httpx2
from pydantic import SecretStr

from app import embedded
from app.config import Settings
from app.core.redis import connect_redis
from app.core.security import issue_token
from app.database import Database
from app.embedded.folder import Folder
from app.embedded.valkey import answering_process
from app.models import User
from tests.builders.users import create_user
from tests.reliability.parts import Api, Part, Relay, Scheduler, Worker
from tests.reliability.prepared import put_cluster
from tests.utils.test_utils import PATIENCE, wait_until_async

ROOT = Path(__file__).resolve().parents[2]
SERVER_SECONDS = 60
TOLD_LINES = 40


class ChaosSystem:
    """PostgreSQL and Valkey of its own, and that many processes of each kind, all up when the block begins.

    However the block ends, nothing stays behind. The keeper of the servers starts them again when they are killed;
    processes that are killed stay dead until they are started. `settings` are further variables of the environment.
    """

    def __init__(
        self,
        *,
        apis: int = 0,
        relays: int = 0,
        workers: int = 0,
        schedulers: int = 0,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._wanted = {Api: apis, Relay: relays, Worker: workers, Scheduler: schedulers}
        self._further_settings = settings or {}
        self._stack = AsyncExitStack()
        self._parts: list[Part] = []
        # A short path, for the sockets of the servers lie in it.
        self.folder = Path(tempfile.mkdtemp(prefix="hive-"))
        self.database_url = embedded.database_url(self.folder)
        self.redis_url = embedded.redis_url(self.folder)
        self.settings = Settings(
            _env_file=ROOT / ".env.test",
            database_url=SecretStr(self.database_url),
            redis_url=SecretStr(self.redis_url),
            hive_data_dir=self.folder,
        )

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._clear_away()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._tell_what_was_said()
        await self._clear_away()

    @property
    def apis(self) -> list[Api]:
        return [part for part in self._parts if isinstance(part, Api)]

    @property
    def relays(self) -> list[Relay]:
        return [part for part in self._parts if isinstance(part, Relay)]

    @property
    def workers(self) -> list[Worker]:
        return [part for part in self._parts if isinstance(part, Worker)]

    @property
    def schedulers(self) -> list[Scheduler]:
        return [part for part in self._parts if isinstance(part, Scheduler)]

    @property
    def valkey_pid(self) -> int | None:
        """None while it's away."""
        return answering_process(Folder.at(self.folder).valkey_socket)

    @property
    def postgres_pid(self) -> int | None:
        """The first of its processes; None while it's away."""
        try:
            return int((self.folder / "postgres" / "postmaster.pid").read_text().split()[0])
        except (FileNotFoundError, IndexError):
            return None

    def kill_valkey(self) -> int:
        """SIGKILL; the process id of the dead one, for `until_valkey_is_back`."""
        return _kill(self.valkey_pid)

    def kill_postgres(self) -> int:
        """SIGKILL; the process id of the dead one, for `until_postgres_is_back`."""
        return _kill(self.postgres_pid)

    async def until_valkey_is_back(self, dead: int | None = None) -> None:
        async def is_back() -> bool:
            return self.valkey_pid not in (None, dead)

        await wait_until_async(is_back, what="a Valkey that answers")

    async def until_postgres_is_back(self, dead: int) -> None:
        async def is_back() -> bool:
            if self.postgres_pid in (None, dead):
                return False
            try:
                return bool(await self.sql("SELECT 1"))
            except (asyncpg.PostgresError, OSError):
                return False

        await wait_until_async(is_back, what="another PostgreSQL")

    async def active_relay(self) -> Relay:
        """The relay that leads, as soon as one that lives says so."""

        async def look() -> Relay | None:
            return next((relay for relay in self.relays if relay.is_active), None)

        active = await wait_until_async(look, what="an active relay")
        assert active is not None
        return active

    async def sql(self, statement: str, *values: Any) -> list[Any]:
        """The rows of the answer, whose columns are got by name or number; on a connection of its own."""
        connection = await asyncpg.connect(self.database_url, timeout=5)
        try:
            return list(await connection.fetch(statement, *values))
        finally:
            await connection.close()

    async def user(self, display_name: str, *, is_admin: bool = False) -> User:
        async with self.database.unit_of_work() as session:
            return await create_user(session, display_name=display_name, is_admin=is_admin)

    def token_of(self, user: User) -> str:
        return issue_token(user.id, user.id, key=self.settings.jwt_key, lifetime=timedelta(hours=1))

    @asynccontextmanager
    async def client(self, user: User, *, api: int = 0) -> AsyncIterator[httpx2.AsyncClient]:
        """A client of one API that the user is signed in with."""
        headers = {"Authorization": f"Bearer {self.token_of(user)}"}
        address = self.apis[api].address
        # Nothing is encrypted here, and to load the certificates for it takes 20 ms.
        async with httpx2.AsyncClient(base_url=address, headers=headers, timeout=PATIENCE, verify=False) as client:
            yield client

    async def _start(self) -> None:
        await asyncio.to_thread(put_cluster, self.folder)
        await asyncio.to_thread(embedded.join, self.folder, durable=False)
        # Otherwise two systems that share a Redis would take each other's history for their own.
        await self.sql("UPDATE event_log SET epoch = gen_random_uuid()")
        self.database = Database.connect(self.database_url, application="tests", pool_size=10)
        self._stack.push_async_callback(self.database.close)
        self.redis = connect_redis(self.redis_url)
        self._stack.push_async_callback(self.redis.aclose)
        for kind, number in self._wanted.items():
            for _ in range(number):
                # Each has a data folder, as if it ran on a machine of its own.
                part = kind({**self.environment(), "HIVE_DATA_DIR": str(self.folder / f"part{len(self._parts)}")})
                self._parts.append(self._stack.enter_context(part))
        await asyncio.gather(*(part.until_ready() for part in self._parts))
        if self.relays:
            await self.active_relay()

    def environment(self) -> dict[str, str]:
        """What each part is started with."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "PYTHONPATH": str(ROOT),
            "ENVIRONMENT": "test",
            "LOG_LEVEL": "WARNING",
            "SECRET_KEY": self.settings.signing_key,
            "JWT_SECRET_KEY": self.settings.jwt_key,
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "WORKER_CONCURRENCY": "1",
            # The writers are few, and in a hurry.
            "REQUESTS_PER_MINUTE": "0",
            "BYTES_PER_USER_AND_DAY": "0",
            "OPEN_TASKS_PER_USER": "0",
            "REGISTRATIONS_PER_MINUTE": "0",
            **self._further_settings,
        }

    async def _clear_away(self) -> None:
        for part in self._parts:
            if part.is_running:
                part.kill()
        try:
            await self._stack.aclose()
        finally:
            await asyncio.to_thread(embedded.leave, self.folder)
            shutil.rmtree(self.folder)

    def _tell_what_was_said(self) -> None:
        for number, part in enumerate(self._parts):
            lines = part.output.splitlines()[-TOLD_LINES:]
            sys.stdout.write("\n".join([f"{part.command} ({number}) said at last:", *lines, ""]))


def _kill(pid: int | None) -> int:
    assert pid is not None, "it's away already"
    os.kill(pid, signal.SIGKILL)
    return pid
