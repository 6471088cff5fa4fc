"""A whole HIVE for a benchmark alone, from `hive run`, in a data folder that is thrown away."""

import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import httpx2

from app import embedded
from app.core.security import hash_password
from bench.people import PASSWORD, sign_in
from bench.rows import Rows, person_id
from tests.utils.processes import HiveProcess, free_port
from tests.utils.test_utils import wait_until

ROOT = Path(__file__).resolve().parent.parent
# All are the defaults but for these: so many requests of few people would be refused, and tokens have to hold.
SETTINGS = {
    "LOG_LEVEL": "WARNING",
    "REQUESTS_PER_MINUTE": "1000000",
    "BYTES_PER_USER_AND_DAY": str(2**50),
    "OPEN_TASKS_PER_USER": "10000000",
    "REGISTRATIONS_PER_MINUTE": "0",
    "SESSIONS_PER_ACCOUNT": "10000",
    "ACCESS_TOKEN_MINUTES": "120",
}


@dataclass(frozen=True, slots=True)
class Person:
    id: UUID
    token: str


@dataclass(frozen=True)
class BenchedSystem:
    """A running HIVE. A process with the same `environment` and a `PORT` of its own is a further API of it."""

    address: str
    environment: Mapping[str, str]
    database_url: str
    redis_url: str
    people: Sequence[Person]

    @property
    def api(self) -> str:
        return f"{self.address}/api/v1"

    @property
    def socket(self) -> str:
        return socket_of(self.address)

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])


def socket_of(address: str) -> str:
    """Where the API at this address has its sockets."""
    return f"{address.replace('http', 'ws', 1)}/ws"


def settings_of_benchmark(data_dir: str) -> dict[str, str]:
    """The environment of HIVE's processes, with keys of their own."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    keys = {name: secrets.token_urlsafe(48) for name in ("SECRET_KEY", "JWT_SECRET_KEY")}
    return {**kept, **keys, **SETTINGS, "HIVE_DATA_DIR": data_dir, "PYTHONPATH": str(ROOT)}


@contextmanager
def running_hive(folder: str) -> Iterator[tuple[HiveProcess, dict[str, str]]]:
    """`hive run` in this data folder, once it answers, and its environment."""
    environment = {**settings_of_benchmark(folder), "PORT": str(free_port())}
    with HiveProcess(["-m", "app.cli", "run"], environment) as system:
        system.wait_for_output("HIVE is at")
        yield system, environment


@contextmanager
def own_system() -> Iterator[BenchedSystem]:
    with tempfile.TemporaryDirectory(prefix="hive-bench-") as folder, running_hive(folder) as (_, environment):
        address = f"http://127.0.0.1:{environment['PORT']}"
        # While the worker is still starting, it would take the processor from what is measured.
        wait_until(lambda: httpx2.get(f"{address}/health/ready").is_success, what="all parts")
        yield BenchedSystem(
            address=address,
            environment=environment,
            database_url=embedded.database_url(folder),
            redis_url=embedded.redis_url(folder),
            people=(),
        )


@asynccontextmanager
async def system_with_people(people: int) -> AsyncIterator[BenchedSystem]:
    """A whole HIVE whose first people are signed in."""
    with own_system() as system:
        await Rows(system.database_url).make_people(await hash_password(PASSWORD))
        tokens = await sign_in(system.address, people)
        signed_in = [Person(UUID(person_id(number)), token) for number, token in enumerate(tokens)]
        yield replace(system, people=signed_in)
