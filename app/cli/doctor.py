"""`hive doctor`: what is configured, and whether each part answers."""

from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit

from app.backing import Backing
from app.causes.cause import Cause
from app.causes.redis import BROKER, RESULTS
from app.clocks import check_clocks
from app.config import Registration, Settings, authority
from app.core.redis import connect_redis
from app.database import Database
from app.health import NotReady, check_readiness
from app.mail.mailer import MailDelayed
from app.mail.smtp import SmtpMailer
from app.main import build_state
from app.redis_rights import told, try_rights
from app.schemas.health import Check
from app.server_checks import connection_demand, why_broker_unusable, why_database_unusable
from app.state import State


async def examine(settings: Settings, backing: Backing, say: Callable[[str], None]) -> bool:
    """Say it line by line; whether all parts answer. Starts nothing."""
    say(f"environment  {settings.environment}")
    say(f"address      {authority(settings.host, settings.port)}")
    say(f"metrics      {_metrics_place(settings)}")
    say(f"data         {settings.data_dir}")
    say(f"registration {_registration(settings)}")
    say(f"PostgreSQL   {_place(backing.database_url, is_embedded=settings.needs_embedded_postgres)}")
    say(f"Redis        {_place(backing.redis_url, is_embedded=settings.needs_embedded_valkey)}")
    is_well = True
    checks, warnings = await _readiness(settings, backing)
    for warning in warnings:
        say(f"NOTE  {warning}")
    async for finding in _findings(settings, backing, checks):
        say(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.detail}")
        is_well = is_well and finding.ok
    return is_well


async def _findings(settings: Settings, backing: Backing, checks: dict[str, Check]) -> AsyncIterator[Check]:
    """One for each part, each server, and each right that HIVE needs in Redis."""
    for name, check in checks.items():
        yield Check(ok=check.ok, detail=f"{name}: {check.detail}")
    # A server that answers may yet be one on which HIVE would go wrong.
    for name, cause in (await _servers(settings, backing)).items():
        yield Check(ok=cause is None, detail=f"{name}: {cause.sentence if cause else 'can be used'}")
    if demand := await connection_demand(backing.database_url):
        yield Check(ok=demand.is_met, detail=f"connections: {demand.sentence}")
    redis = connect_redis(backing.redis_url, prefix=settings.redis_prefix)
    try:
        async for what, refusal in try_rights(redis):
            yield Check(ok=refusal is None, detail=told(what, refusal))
    finally:
        await redis.aclose()


async def _servers(settings: Settings, backing: Backing) -> dict[str, Cause | None]:
    """Why they can't be used; None for one that can."""
    causes = {"PostgreSQL": await why_database_unusable(backing.database_url)}
    for name, url, server in (
        ("broker", settings.celery_broker_url, BROKER),
        ("result backend", settings.celery_result_backend, RESULTS),
    ):
        if url is not None:
            causes[name] = await why_broker_unusable(url.get_secret_value(), server)
    if settings.smtp_url is not None:
        causes["mail"] = await _why_mail_unusable(settings)
    return causes


async def _why_mail_unusable(settings: Settings) -> Cause | None:
    try:
        await SmtpMailer(settings).check()
    except MailDelayed as error:
        return Cause(str(error))
    return None


async def _readiness(settings: Settings, backing: Backing) -> tuple[dict[str, Check], list[str]]:
    """The parts, and what needs attention though none is missing."""
    database = Database.connect(backing.database_url, application="doctor", pool_size=5)
    state = build_state(settings, database, redis_url=backing.redis_url)
    try:
        checks, warnings = await _check_parts(state)
        return checks | await check_clocks(state), warnings
    finally:
        await state.redis.aclose()
        await database.close()


async def _check_parts(state: State) -> tuple[dict[str, Check], list[str]]:
    try:
        ready = await check_readiness(state, tells_causes=True)
    except NotReady as error:
        return error.checks, error.warnings
    return ready.checks, ready.warnings


def _registration(settings: Settings) -> str:
    if settings.opens_until_first_admin:
        return "open until there is an admin, then closed"
    return settings.registration or Registration.OPEN


def _metrics_place(settings: Settings) -> str:
    own_port = (
        "" if settings.metrics_port is None else f", and on {authority(settings.metrics_host, settings.metrics_port)}"
    )
    return f"at /metrics for admins{own_port}"


def _place(url: str, *, is_embedded: bool) -> str:
    """The server's address without user, password and options."""
    if is_embedded:
        return "embedded, in the data folder"
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2] + parts.path or "a local socket"
