"""A whole HIVE for a benchmark alone, from `hive run`, in a data folder that is thrown away."""

import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import httpx2

from app import embedded
from app.core.security import issue_token
from tests.utils.processes import HiveProcess, free_port
from tests.utils.test_utils import wait_until

ROOT = Path(__file__).resolve().parents[2]
TOKEN_LIFETIME = timedelta(hours=1)


@dataclass(frozen=True)
class BenchedSystem:
    """A running HIVE. A process with the same `environment` and a `PORT` of its own is a further API of it."""

    address: str
    environment: Mapping[str, str]
    database_url: str
    redis_url: str
    jwt_key: str

    @property
    def api(self) -> str:
        return f"{self.address}/api/v1"

    @property
    def socket(self) -> str:
        return socket_of(self.address)

    def token_of(self, user_id: UUID) -> str:
        return issue_token(user_id, user_id, key=self.jwt_key, lifetime=TOKEN_LIFETIME)


def socket_of(address: str) -> str:
    """Where the API at this address has its sockets."""
    return f"{address.replace('http', 'ws', 1)}/ws"


@contextmanager
def own_system(**further: str) -> Iterator[BenchedSystem]:
    """`further` settings by their names in the environment."""
    with tempfile.TemporaryDirectory(prefix="hive-bench-") as folder:
        port = str(free_port())
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        keys = {name: secrets.token_urlsafe(48) for name in ("SECRET_KEY", "JWT_SECRET_KEY")}
        settings = {"HIVE_DATA_DIR": folder, "PORT": port, "LOG_LEVEL": "WARNING", "PYTHONPATH": str(ROOT)} | further
        environment = kept | keys | settings
        with HiveProcess(["-m", "app.cli", "run"], environment) as system:
            system.wait_for_output("HIVE is at", timeout=60)
            address = f"http://127.0.0.1:{port}"
            # While the worker is still starting, it would take the processor from what is measured.
            wait_until(lambda: httpx2.get(f"{address}/health/ready").is_success, timeout=60, what="all parts")
            yield BenchedSystem(
                address=address,
                environment=environment,
                database_url=embedded.database_url(folder),
                redis_url=embedded.redis_url(folder),
                jwt_key=keys["JWT_SECRET_KEY"],
            )
