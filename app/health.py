"""Whether all parts of the system are there, one check each."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from sqlalchemy import select, text

from app.core.errors import HiveError, ServiceUnavailable
from app.core.redis import REDIS_FAILURES
from app.core.worker_signs import SEEN_SECONDS, seconds_since_last_sign
from app.events.lag import publication_lag
from app.events.relay import RELAY_LOCK
from app.revisions import newest_revision
from app.schemas.health import Check, ReadyResponse
from app.state import State

LAG_SECONDS = 10
# How PostgreSQL shows an advisory lock whose key fits into 32 bits.
RELAY_LOCK_IS_HELD = """
    SELECT EXISTS (
        SELECT FROM pg_locks
        WHERE locktype = 'advisory' AND classid = 0 AND objid = :key AND objsubid = 1 AND granted
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    )
"""
CHECK_SECONDS = 3.0


log = structlog.stdlib.get_logger(__name__)


class NotReady(ServiceUnavailable):
    def __init__(self, checks: dict[str, Check]) -> None:
        missing = ", ".join(name for name, check in checks.items() if not check.ok)
        super().__init__(f"Not all parts of HIVE are there: {missing}.", code="not_ready")
        self.checks = checks
        self.extra = {"checks": {name: check.model_dump() for name, check in checks.items()}}


async def check_readiness(state: State) -> ReadyResponse:
    """Look at every part at once.

    Raises:
        NotReady: with the same checks, when one of them fails.
    """
    kinds: dict[str, Callable[[State], Awaitable[Check]]] = {
        "database": _check_database,
        "redis": _check_redis,
        "migrations": _check_migrations,
        "worker": _check_worker,
        "relay": _check_relay,
    }
    found = await asyncio.gather(*(_in_time(check(state)) for check in kinds.values()))
    checks = dict(zip(kinds, found, strict=True))
    if not all(check.ok for check in found):
        raise NotReady(checks)
    return ReadyResponse(checks=checks)


async def _in_time(check: Awaitable[Check]) -> Check:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await check
    except TimeoutError:
        return Check(ok=False, detail=f"no answer within {CHECK_SECONDS:g} seconds")
    except HiveError as error:
        return Check(ok=False, detail=error.detail)
    except REDIS_FAILURES:
        return Check(ok=False, detail="Redis can't be reached.")
    except Exception:  # A check that breaks has failed; the others are still worth telling.
        log.exception("a check of readiness broke")
        return Check(ok=False, detail="the check itself failed; the log says how")


async def _check_database(state: State) -> Check:
    async with state.database.unit_of_work() as session:
        await session.execute(select(1))
    return Check(ok=True, detail="answers")


async def _check_redis(state: State) -> Check:
    await state.redis.ping()
    return Check(ok=True, detail="answers")


async def _check_migrations(state: State) -> Check:
    async with state.database.unit_of_work() as session:
        if await session.scalar(text("SELECT to_regclass('alembic_version') IS NULL")):
            return Check(ok=False, detail="not migrated yet")
        current = await session.scalar(text("SELECT version_num FROM alembic_version"))
    newest = newest_revision()
    return Check(ok=current == newest, detail=f"at {current}" if current == newest else f"at {current}, not {newest}")


async def _check_worker(state: State) -> Check:
    age = await seconds_since_last_sign(state.redis)
    if age is None or age > SEEN_SECONDS:
        return Check(ok=False, detail=f"no worker seen for {SEEN_SECONDS} seconds")
    return Check(ok=True, detail=f"seen {age:.0f} s ago")


async def _check_relay(state: State) -> Check:
    """Whether a relay is at work, and how old the oldest event is that it has yet to publish."""
    async with state.database.unit_of_work() as session:
        seconds = await publication_lag(session)
        is_active = await session.scalar(text(RELAY_LOCK_IS_HELD), {"key": RELAY_LOCK})
    if not is_active:
        return Check(ok=False, detail=f"no relay is at work, lag {seconds:.1f} s")
    return Check(ok=seconds < LAG_SECONDS, detail=f"lag {seconds:.1f} s")
