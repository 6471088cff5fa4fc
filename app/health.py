"""Whether all parts of the system are there, one check each."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import structlog
from sqlalchemy import Boolean, false, literal_column, select, text, update

from app.causes.redis import why_redis
from app.core.errors import HiveError, ServiceUnavailable
from app.core.redis import REDIS_FAILURES
from app.core.seldom import Seldom
from app.core.worker_signs import OUTSIDE_WORKERS_KEY, SEEN_SECONDS, seconds_since_last_sign
from app.db.encoding import WrongEncoding, require_utf8
from app.db.statements import keep
from app.disk import warn_of_full_disk
from app.events.lag import publication_lag
from app.events.relay import RELAY_LOCK
from app.events.schedule import seconds_since_scheduled
from app.models import Task
from app.processes.broken_parts import broken_parts
from app.revisions import newest_revision
from app.schemas.health import Check, ReadyResponse
from app.services.job_service import OUTSIDE_SECONDS
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
# A worker gives no sign while it waits for a mail server.
OUTSIDE_SEEN_SECONDS = SEEN_SECONDS + OUTSIDE_SECONDS
# How long the outcome of a look holds for others who ask.
SHARED_SECONDS = 1.0
# PostgreSQL refuses it where it would refuse a change: in a database that is read-only, or without the right.
CHANGE_NOTHING = keep(update(Task).where(false()).values(version=Task.version))
# So that there is something to commit, for which the disk and a synchronous standby have to be there.
WRITE_TO_LOG = keep(select(literal_column("pg_logical_emit_message(true, 'hive', '') IS NOT NULL", Boolean())))
# Jobs that no worker has ever begun wait too long, or were sent again and again, while no other is done or worked at.
JOBS_ARE_STUCK = """
    SELECT EXISTS (
        SELECT FROM jobs
        WHERE state IN ('waiting', 'sent') AND run_after < now() + interval '30 s' AND attempts = 0 AND lane < 2
          AND (state = 'waiting' AND run_after < now() - interval '30 s' OR state = 'sent' AND sends > 2)
    ) AND NOT EXISTS (SELECT FROM jobs WHERE state = 'done' AND done_at > now() - interval '30 s')
      AND NOT EXISTS (SELECT FROM jobs WHERE state IN ('waiting', 'sent') AND held_until > now())
"""


log = structlog.stdlib.get_logger(__name__)
_seldom = Seldom()


class NotReady(ServiceUnavailable):
    def __init__(self, checks: dict[str, Check], warnings: Sequence[str] = ()) -> None:
        missing = ", ".join(name for name, check in checks.items() if not check.ok)
        super().__init__(f"Not all parts of HIVE are there: {missing}.", code="not_ready")
        self.checks = checks
        self.warnings = list(warnings)
        self.extra = {
            "checks": {name: check.model_dump() for name, check in checks.items()},
            "warnings": self.warnings,
        }


async def check_readiness(state: State, *, tells_causes: bool = False) -> ReadyResponse:
    """Look at every part at once. `tells_causes` is for those who run HIVE: strangers are told more generally.

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
    looks = asyncio.gather(*(_in_time(check(state), tells_causes) for check in kinds.values()))
    found, warnings = await asyncio.gather(looks, _warnings(state))
    # What `hive run` says of its parts beside the API.
    broken = Check(ok=False, detail="ends at once again and again; the log of hive run says why")
    checks = dict(zip(kinds, found, strict=True)) | dict.fromkeys(broken_parts(state.settings.data_dir), broken)
    if not all(check.ok for check in checks.values()):
        raise NotReady(checks, warnings)
    return ReadyResponse(checks=checks, warnings=warnings)


async def _warnings(state: State) -> list[str]:
    """What needs the operator's attention, though requests are answered as they should be."""
    found = _full_disk(state)
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return [*found, *await _missing_scheduler(state), *await _missing_mail_worker(state)]
    except (HiveError, TimeoutError):
        # The database's own check tells of it.
        return found


def _full_disk(state: State) -> list[str]:
    warning = warn_of_full_disk(state.settings.data_dir)
    if warning is None:
        return []
    if (left_out := _seldom.times("full disk")) is not None:
        log.warning("there is little room left", reason=warning, left_out=left_out)
    return [warning]


async def _in_time(check: Awaitable[Check], tells_causes: bool) -> Check:  # noqa: FBT001  # It's passed on.
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await check
    except TimeoutError:
        return Check(ok=False, detail=f"no answer within {CHECK_SECONDS:g} seconds")
    except HiveError as error:
        return Check(ok=False, detail=error.reason if tells_causes else error.detail)
    except REDIS_FAILURES as error:
        cause = why_redis(error)
        if (left_out := _seldom.times(cause.sentence)) is not None:
            log.warning("Redis can't be used", reason=cause.sentence, left_out=left_out)
        general = "Redis can't be reached." if cause.may_pass else "Redis can't be used."
        return Check(ok=False, detail=cause.sentence if tells_causes else general)
    except Exception:  # A check that breaks has failed; the others are still worth telling.
        log.exception("a check of readiness broke")
        return Check(ok=False, detail="the check itself failed; the log says how")


class SharedReadiness:
    """Answers all who ask within a moment from one look. Anybody may ask, and a look costs a commit."""

    def __init__(self) -> None:
        self._state: State | None = None
        self._looking: asyncio.Task[ReadyResponse] | None = None
        self._until = 0.0

    async def check(self, state: State) -> ReadyResponse:
        """Raises `NotReady`, as `check_readiness` does."""
        now = time.monotonic()
        if self._looking is None or self._state is not state or (self._looking.done() and now >= self._until):
            self._state, self._looking = state, asyncio.create_task(self._look(state))
        # Others wait for it as well as the one who hangs up.
        return await asyncio.shield(self._looking)

    async def _look(self, state: State) -> ReadyResponse:
        try:
            return await check_readiness(state)
        finally:
            self._until = time.monotonic() + SHARED_SECONDS


async def _check_database(state: State) -> Check:
    """Try the ways that requests go: a read, and a change that is committed, though no row changes."""
    row = await state.database.read("SHOW server_encoding", ())
    try:
        require_utf8(str(row and row[0]))
    except WrongEncoding as error:
        return Check(ok=False, detail=str(error))
    async with state.database.unit_of_work() as transaction:
        await transaction.execute(CHANGE_NOTHING)
        await transaction.scalar(WRITE_TO_LOG)
    return Check(ok=True, detail="answers")


async def _check_redis(state: State) -> Check:
    """Write, for a replica and one whose disk is full answer as well."""
    await state.redis.set(state.redis.key("readiness"), "1", ex=60)
    return Check(ok=True, detail="answers")


async def _check_migrations(state: State) -> Check:
    async with state.database.unit_of_work(is_reading=True) as transaction:
        if await transaction.scalar(text("SELECT to_regclass('alembic_version') IS NULL")):
            return Check(ok=False, detail="not migrated yet")
        current = await transaction.scalar(text("SELECT version_num FROM alembic_version"))
    newest = newest_revision()
    return Check(ok=current == newest, detail=f"at {current}" if current == newest else f"at {current}, not {newest}")


async def _check_worker(state: State) -> Check:
    """Whether a worker consumes, and jobs pass through broker and worker."""
    age = await seconds_since_last_sign(state.redis)
    if age is None or age > SEEN_SECONDS:
        return Check(ok=False, detail=f"no worker seen for {SEEN_SECONDS} seconds")
    async with state.database.unit_of_work(is_reading=True) as transaction:
        if await transaction.scalar(text(JOBS_ARE_STUCK)):
            return Check(ok=False, detail=f"a worker was seen {age:.0f} s ago, but jobs wait and none is begun")
    return Check(ok=True, detail=f"seen {age:.0f} s ago")


async def _check_relay(state: State) -> Check:
    """Whether a relay is at work, and how old the oldest event is that it has yet to publish."""
    async with state.database.unit_of_work(is_reading=True) as transaction:
        seconds = await publication_lag(transaction)
        is_active = await transaction.scalar(text(RELAY_LOCK_IS_HELD), {"key": RELAY_LOCK})
    if not is_active:
        return Check(ok=False, detail=f"no relay is at work, lag {seconds:.1f} s")
    return Check(ok=seconds < LAG_SECONDS, detail=f"lag {seconds:.1f} s")


async def _missing_mail_worker(state: State) -> list[str]:
    if state.settings.smtp_url is None:
        return []
    try:
        age = await seconds_since_last_sign(state.redis, OUTSIDE_WORKERS_KEY)
    except REDIS_FAILURES:
        # The check of Redis tells of it.
        return []
    if age is not None and age < OUTSIDE_SEEN_SECONDS:
        return []
    return ["No worker sends mail: none that takes from the queue outside was seen lately."]


async def _missing_scheduler(state: State) -> list[str]:
    async with state.database.unit_of_work(is_reading=True) as transaction:
        is_missing = await seconds_since_scheduled(transaction) is None
    return ["No scheduler has asked for jobs in the last minute: nothing is done by the clock."] if is_missing else []
