"""`hive run` as a user meets it: one program that starts everything, heals itself, and leaves nothing behind."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import asyncpg
import httpx2
import pytest

from app import embedded
from app.database import Database
from app.events.jobs import ask_for_job
from app.models import JobName
from tests.conftest import ROOT
from tests.utils.databases import new_database
from tests.utils.processes import HiveProcess, free_port, measured
from tests.utils.test_utils import PATIENCE, wait_until, wait_until_async

JOB = JobName.RECOMPUTE_IMPACT_SCORE
AT_A_LOCK = "SELECT true FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name LIKE 'hive worker%'"
# As migrations/env.py has it, which only Alembic can import.
LOCK_OF_MIGRATIONS = 4_183_001


class System:
    """A whole HIVE in a data folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "HIVE_DATA_DIR": str(folder),
            "HIVE_EMBEDDED_DURABLE": "false",
            "PORT": str(self.port),
            "WORKER_CONCURRENCY": "1",
            "LOG_LEVEL": "WARNING",
        } | measured()

    def run(self, *arguments: str) -> HiveProcess:
        return HiveProcess(["-m", "app.cli", *arguments], self.environment)

    def command(self, *arguments: str, text: str = "", **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "app.cli", *arguments],
            env=self.environment | environment,
            cwd=self.folder,
            input=text,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def processes(self, part: str = "") -> list[int]:
        """What runs of this system, or of one part of it."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                environment = (entry / "environ").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if entry.name.isdigit() and str(self.folder) in environment + command and part in command:
                found.append(int(entry.name))
        return found

    def until_ready(self) -> dict[str, object]:
        def is_ready() -> dict[str, object] | None:
            try:
                answer = httpx2.get(f"{self.url}/health/ready", timeout=PATIENCE)
            except httpx2.TransportError:
                return None
            return answer.json() if answer.is_success else None

        return wait_until(is_ready, what="the system to be ready") or {}

    def until_gone(self) -> None:
        wait_until(lambda: not self.processes(), what="the last process to end")


def read_status(connection: socket.socket) -> bytes:
    with connection, connection.makefile("rb") as answer:
        return answer.readline().strip()


@pytest.fixture
def system() -> Iterator[System]:
    with tempfile.TemporaryDirectory(prefix="hive-") as folder:
        system = System(Path(folder))
        yield system
        system.until_gone()


def test_the_whole_system_runs_heals_and_ends(system: System) -> None:
    with system.run("run") as hive:
        hive.wait_for_output(f"HIVE is at {system.url}")
        ready = system.until_ready()
        assert ready["status"] == "ok"
        parts = {"database", "redis", "migrations", "worker", "relay"}
        assert set(ready["checks"]) == parts  # type: ignore[call-overload]

        # An account made on the command line is one of the same system.
        made = system.command(
            "user", "create", "root@example.org", "--admin", "--time-zone", "Asia/Tokyo", text="correct horse battery\n"
        )
        assert made.returncode == 0, made.stderr
        assert "Created admin root@example.org" in made.stdout
        again = system.command("user", "create", "root@example.org", text="correct horse battery\n")
        assert (again.returncode, again.stderr.count("\n")) == (1, 1)
        credentials = {"email": "root@example.org", "password": "correct horse battery"}
        assert httpx2.post(f"{system.url}/api/v1/auth/login", json=credentials, timeout=PATIENCE).status_code == 200

        doctor = system.command("doctor")
        assert doctor.returncode == 0, doctor.stdout
        assert "ok    relay" in doctor.stdout

        # A second API process beside it joins the same servers.
        other = System(system.folder)
        own = {"PORT": str(other.port), "LOG_LEVEL": "INFO"}
        with HiveProcess(["-m", "app.cli", "api"], system.environment | own) as other_api:
            other.until_ready()
            # On a busy machine Redis may not answer in time for their number to be told.
            other_api.wait_for_output("looked for workers")
            assert httpx2.post(f"{other.url}/api/v1/auth/login", json=credentials, timeout=PATIENCE).status_code == 200

        # A part that is killed is started again, and a line says so. Who connects meanwhile waits for an answer.
        [api] = system.processes("app.cli api")
        os.kill(api, signal.SIGKILL)
        hive.wait_for_output("api has ended")
        waiting = [socket.create_connection(("127.0.0.1", system.port), PATIENCE) for _ in range(20)]
        for each in waiting:
            each.sendall(b"GET /health HTTP/1.1\r\nHost: hive.test\r\nConnection: close\r\n\r\n")
        assert {read_status(each) for each in waiting} == {b"HTTP/1.1 200 OK"}
        wait_until(lambda: system.processes("app.cli api") not in ([], [api]), what="another API process")
        system.until_ready()

        hive.process.send_signal(signal.SIGINT)
        assert hive.wait() == 0
        assert system.processes() == []
        assert "Traceback" not in hive.output


def test_nothing_runs_ten_seconds_after_it_was_killed(system: System) -> None:
    with system.run("run") as hive:
        hive.wait_for_output(f"HIVE is at {system.url}")
        wait_until(lambda: len(system.processes("app.cli")) >= 5, what="all parts")

        hive.kill()

        system.until_gone()


async def test_a_job_in_progress_is_finished_when_all_processes_are_told_to_stop(system: System) -> None:
    """Also the keeper of the embedded servers, which the others need until they have finished."""
    with system.run("run") as hive:
        await asyncio.to_thread(hive.wait_for_output, f"HIVE is at {system.url}")
        account = {"email": "ada@example.org", "password": "correct horse battery"}
        user = httpx2.post(f"{system.url}/api/v1/auth/register", json=account, timeout=PATIENCE).json()["user"]
        async with job_in_progress(system, user["id"]):
            servers = [*system.processes("postgres"), *system.processes("valkey-server")]
            for pid in set(system.processes()) - set(servers):
                os.kill(pid, signal.SIGTERM)
            keeper = system.folder / "log" / "keeper.log"
            await asyncio.to_thread(wait_until, lambda: "Told to stop" in keeper.read_text(), what="the keeper to heed")
        assert await asyncio.to_thread(hive.wait) == 0

    assert system.processes() == []
    async with connected(system) as connection:
        jobs = await connection.fetch("SELECT state, attempts, sends FROM jobs WHERE name = $1", JOB)
    assert [tuple(job) for job in jobs] == [("done", 1, 1)], hive.output


@asynccontextmanager
async def connected(system: System) -> AsyncIterator[asyncpg.Connection]:
    """A connection to the embedded PostgreSQL of the system, for which it's up."""
    servers = await asyncio.to_thread(embedded.join, system.folder, valkey=False, durable=False)
    connection = await asyncpg.connect(servers.database_url)
    yield connection
    await connection.close()
    await asyncio.to_thread(servers.leave)


@asynccontextmanager
async def job_in_progress(system: System, user_id: str) -> AsyncIterator[None]:
    """The worker is at a job for as long as the block runs, for it waits for a row that is locked."""
    async with connected(system) as locking:
        lock = locking.transaction()
        await lock.start()
        await locking.execute("SELECT FROM users WHERE id = $1 FOR UPDATE", UUID(user_id))
        database = Database.connect(embedded.database_url(system.folder), application="test", pool_size=1)
        async with database.unit_of_work() as session:
            ask_for_job(session, JOB, user_id=user_id)
        await database.close()

        async def is_in_progress() -> bool:
            # Within one transaction PostgreSQL shows what it showed the first time.
            await locking.execute("SELECT pg_stat_clear_snapshot()")
            return bool(await locking.fetchval(AT_A_LOCK))

        await wait_until_async(is_in_progress, what="a worker that is at the job")
        yield


async def test_a_database_at_the_newest_revision_is_not_migrated_again(system: System, servers: str) -> None:
    async with new_database(servers, is_migrated=True) as url:
        system.environment["DATABASE_URL"] = url
        another = await asyncpg.connect(url)
        await another.execute("SELECT pg_advisory_lock($1)", LOCK_OF_MIGRATIONS)

        with system.run("run") as hive:
            # Whoever migrates waits for the lock.
            await asyncio.to_thread(hive.wait_for_output, f"HIVE is at {system.url}")

        await another.close()


def test_a_busy_port_is_told_in_a_sentence_before_anything_starts(system: System) -> None:
    with socket.create_server(("127.0.0.1", system.port)):
        outcome = system.command("run")

    assert outcome.returncode == 1
    assert outcome.stderr.startswith(f"hive: can't listen on 127.0.0.1:{system.port}: ")
    assert outcome.stderr.count("\n") == 1
    assert not (system.folder / "postgres").exists()


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none", "REDIS_URL": "redis://127.0.0.1:1"}, "The database"),
        ({"DATABASE_URL": "mysql://nobody@localhost/none"}, "DATABASE_URL must begin with postgresql://"),
        ({"REDIS_URL": "http://localhost"}, "REDIS_URL must begin with one of"),
        ({"PORT": "none"}, "PORT: "),
        ({"ENVIRONMENT": "production"}, "SECRET_KEY is missing"),
        ({"ENVIRONMENT": "production", "SECRET_KEY": "x" * 40, "JWT_SECRET_KEY": "short"}, "JWT_SECRET_KEY is shorter"),
    ],
)
def test_what_cannot_be_used_is_told_in_a_sentence(system: System, environment: dict[str, str], told: str) -> None:
    outcome = system.command("run", **environment)

    assert outcome.returncode == 1
    assert told in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_the_api_starts_serves_and_stops_while_redis_and_workers_are_away(system: System) -> None:
    system.environment |= {"REDIS_URL": "unix:///nowhere/at-all.sock", "LOG_LEVEL": "INFO"}
    assert system.command("migrate").returncode == 0

    with system.run("api") as api:
        wait_until(lambda: answers(system.url), what="the API")
        api.wait_for_output("redis_answers=False")
        account = {"email": "ada@example.org", "password": "correct horse battery", "display_name": "Ada"}
        assert httpx2.post(f"{system.url}/api/v1/auth/register", json=account, timeout=PATIENCE).status_code == 201
        ready = httpx2.get(f"{system.url}/health/ready", timeout=PATIENCE)
        assert ready.status_code == 503
        missing = {name for name, check in ready.json()["checks"].items() if not check["ok"]}
        assert missing == {"redis", "worker", "relay"}

        api.process.send_signal(signal.SIGTERM)
        assert api.wait() in {0, -signal.SIGTERM}


def answers(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/health", timeout=PATIENCE).is_success
    except httpx2.TransportError:
        return False
