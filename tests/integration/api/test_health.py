"""Readiness says what works: it tries what requests do, and is green while they work, and only then."""

import asyncio
import fcntl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from sqlalchemy import text

from app import health
from app.config import Settings
from app.core.redis import connect_redis
from app.core.worker_signs import WORKERS_KEY
from app.database import Database
from app.events.jobs import ask_for_job
from app.events.schedule import ask_for_scheduled_jobs
from app.health import NotReady, SharedReadiness, check_readiness
from app.main import build_state
from app.models import JobName
from app.processes.broken_parts import FILE_NAME, BrokenPartsFile, broken_parts
from app.schemas.health import Check, ReadyResponse
from app.state import State
from tests.utils.databases import new_database, run_sql
from tests.utils.own_valkey import running_valkey
from tests.utils.test_utils import wait_until


@asynccontextmanager
async def state_on(settings: Settings, url: str, redis_url: str) -> AsyncIterator[State]:
    database = Database.connect(url, application="health", pool_size=4)
    state = build_state(settings, database, redis_url=redis_url)
    yield state
    await state.redis.aclose()
    await database.close()


@pytest.fixture
async def url(servers: str) -> AsyncIterator[str]:
    async with new_database(servers, is_migrated=True) as url:
        yield url


async def checks_of(state: State, *, tells_causes: bool = False) -> dict[str, Check]:
    try:
        return (await check_readiness(state, tells_causes=tells_causes)).checks
    except NotReady as error:
        return error.checks


async def warnings_of(state: State) -> list[str]:
    """Neither a worker nor a relay is there."""
    with pytest.raises(NotReady) as not_ready:
        await check_readiness(state)
    assert not_ready.value.extra["warnings"] == not_ready.value.warnings
    return not_ready.value.warnings


async def test_a_database_that_takes_no_changes_is_not_ready(settings: Settings, url: str, redis_url: str) -> None:
    async with state_on(settings, url, redis_url) as state:
        assert (await checks_of(state))["database"].ok
    name = urlsplit(url).path.strip("/")
    await run_sql(url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")

    async with state_on(settings, url, redis_url) as state:
        told, explained = await checks_of(state), await checks_of(state, tells_causes=True)

    assert (told["database"].ok, told["database"].detail) == (False, "The database takes no changes at the moment.")
    assert "default_transaction_read_only" in explained["database"].detail


async def test_a_role_without_the_right_to_write_is_not_ready(
    settings: Settings, servers: str, url: str, redis_url: str
) -> None:
    await run_sql(url, "DROP ROLE IF EXISTS looks_only")
    await run_sql(url, "CREATE ROLE looks_only LOGIN")
    await run_sql(url, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO looks_only")

    async with state_on(settings, url.replace("://hive@", "://looks_only@"), redis_url) as state:
        database = (await checks_of(state, tells_causes=True))["database"]
    await run_sql(url, "DROP OWNED BY looks_only")
    await run_sql(url, "DROP ROLE looks_only")

    assert not database.ok
    assert "lacks a right" in database.detail


async def test_a_redis_that_takes_no_changes_is_not_ready(settings: Settings, url: str, tmp_path: Path) -> None:
    # A replica of nobody, which answers and refuses to be written to.
    with running_valkey(tmp_path, "replicaof 127.0.0.1 1") as port:
        async with state_on(settings, url, f"redis://127.0.0.1:{port}") as state:
            told, explained = await checks_of(state), await checks_of(state, tells_causes=True)

    assert (told["redis"].ok, told["redis"].detail) == (False, "Redis can't be reached.")
    assert "is a replica that takes no changes" in explained["redis"].detail


async def sign_as_worker(redis_url: str, settings: Settings, *, seconds_ago: float = 0) -> None:
    redis = connect_redis(redis_url, prefix=settings.redis_prefix)
    seconds, _ = await redis.time()
    await redis.zadd(redis.key(WORKERS_KEY), {"a worker of this test": seconds - seconds_ago})
    await redis.aclose()


AGE = "UPDATE jobs SET run_after = now() - interval '31 s'"
SEND_AGAIN = "UPDATE jobs SET state = 'sent', sends = 3, run_after = now() + interval '20 s'"
ONE_IS_DONE = "UPDATE jobs SET state = 'done', done_at = now() WHERE id = (SELECT min(id::text)::uuid FROM jobs)"
ONE_IS_HELD = "UPDATE jobs SET held_until = now() + interval '60 s' WHERE id = (SELECT min(id::text)::uuid FROM jobs)"


@pytest.mark.parametrize(
    ("changes", "is_ok"),
    [
        ([], True),
        ([AGE], False),
        ([SEND_AGAIN], False),
        ([AGE, ONE_IS_DONE], True),
        ([SEND_AGAIN, ONE_IS_HELD], True),
        (["UPDATE jobs SET run_after = now() + interval '1 day'"], True),
        (["UPDATE jobs SET run_after = now() - interval '31 s', attempts = 1"], True),
    ],
)
async def test_jobs_that_no_worker_begins_are_told_of_the_worker(
    settings: Settings, url: str, tmp_path: Path, changes: list[str], is_ok: bool
) -> None:
    with running_valkey(tmp_path) as port:
        redis_url = f"redis://127.0.0.1:{port}"
        await sign_as_worker(redis_url, settings)
        async with state_on(settings, url, redis_url) as state:
            async with state.database.unit_of_work() as session:
                for _ in range(2):
                    ask_for_job(session, JobName.TEST)
            async with state.database.unit_of_work() as session:
                for change in changes:
                    await session.execute(text(change))

            worker = (await checks_of(state))["worker"]

    assert worker.ok == is_ok
    assert worker.detail.endswith("s ago" if is_ok else "jobs wait and none is begun")


@pytest.mark.parametrize(("seconds_ago", "is_ok"), [(20, True), (40, False)])
async def test_a_worker_is_seen_by_the_clock_of_redis(
    settings: Settings, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds_ago: float, is_ok: bool
) -> None:
    monkeypatch.setattr("time.time", lambda: 0.0)
    with running_valkey(tmp_path) as port:
        await sign_as_worker(f"redis://127.0.0.1:{port}", settings, seconds_ago=seconds_ago)
        async with state_on(settings, url, f"redis://127.0.0.1:{port}") as state:
            assert (await checks_of(state))["worker"].ok == is_ok


AGES = "UPDATE jobs SET created_at = created_at - interval '2 min', unique_key = replace(unique_key, '/', '/old ')"


async def test_a_missing_scheduler_is_a_warning(settings: Settings, url: str, redis_url: str) -> None:
    async with state_on(settings, url, redis_url) as state:
        never = await warnings_of(state)
        async with state.database.unit_of_work() as session:
            await ask_for_scheduled_jobs(session)
        lately = await warnings_of(state)
        async with state.database.unit_of_work() as session:
            await session.execute(text(AGES))
        no_longer = await warnings_of(state)

    assert never == no_longer == ["No scheduler has asked for jobs in the last minute: nothing is done by the clock."]
    assert lately == []


async def test_those_who_ask_at_once_share_one_look(
    settings: Settings, url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    async def count(state: State) -> ReadyResponse:
        nonlocal looks
        looks += 1
        return ReadyResponse(checks=await checks_of(state))

    monkeypatch.setattr(health, "check_readiness", count)
    shared = SharedReadiness()
    async with state_on(settings, url, redis_url) as state, state_on(settings, url, redis_url) as other:
        leaving = asyncio.create_task(shared.check(state))
        await asyncio.sleep(0)
        leaving.cancel()
        answers = await asyncio.gather(*(shared.check(state) for _ in range(20)))
        assert (looks, len({id(answer) for answer in answers})) == (1, 1)

        await shared.check(other)
        assert looks == 2
        monkeypatch.setattr(health, "SHARED_SECONDS", 0.0)
        await shared.check(state)
        await shared.check(state)
        assert looks == 4


async def test_a_part_that_hive_run_calls_broken_is_named(settings: Settings, url: str, redis_url: str) -> None:
    async with state_on(settings, url, redis_url) as state:
        file = BrokenPartsFile(settings.data_dir)
        file.tell({"scheduler", "worker"})
        told = await checks_of(state)
        file.tell(())
        told_then = await checks_of(state)

    assert (told["scheduler"].ok, told["worker"].ok, told["database"].ok) == (False, False, True)
    assert "again and again" in told["worker"].detail
    assert "again and again" not in told_then["worker"].detail
    assert "scheduler" not in told_then


def test_what_a_dead_hive_run_has_told_is_not_believed(tmp_path: Path) -> None:
    """However it died, and whatever process has its number now."""
    tell = (
        "import sys, time, pathlib; from app.processes.broken_parts import BrokenPartsFile;"
        "file = BrokenPartsFile(pathlib.Path(sys.argv[1])); file.tell({'relay'}); file.tell({'relay', 'worker'});"
        "time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", tell, str(tmp_path)]) as teller:
        wait_until(lambda: len(broken_parts(tmp_path)) == 2, what="what it tells")
        with (tmp_path / FILE_NAME).open() as held_by_a_reader:
            teller.kill()
            teller.wait()
            fcntl.flock(held_by_a_reader, fcntl.LOCK_SH)
            assert broken_parts(tmp_path) == []

    assert (tmp_path / FILE_NAME).exists()
    BrokenPartsFile(tmp_path).tell(())
    assert not (tmp_path / FILE_NAME).exists()
