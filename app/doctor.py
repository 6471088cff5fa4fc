"""`hive doctor`: what is configured, and whether each part answers."""

from collections.abc import Callable
from urllib.parse import urlsplit

from app.backing import Backing
from app.clocks import check_clocks
from app.config import Settings
from app.database import Database
from app.health import NotReady, check_readiness
from app.main import build_state
from app.schemas.health import Check
from app.state import State


async def examine(settings: Settings, backing: Backing, say: Callable[[str], None]) -> bool:
    """Say it line by line; whether all parts answer. Starts nothing."""
    say(f"environment  {settings.environment}")
    say(f"address      {settings.host}:{settings.port}")
    say(f"metrics      {_metrics_place(settings)}")
    say(f"data         {settings.data_dir}")
    say(f"PostgreSQL   {_place(backing.database_url, is_embedded=settings.needs_embedded_postgres)}")
    say(f"Redis        {_place(backing.redis_url, is_embedded=settings.needs_embedded_valkey)}")
    checks = await _check(settings, backing)
    for name, check in checks.items():
        say(f"{'ok  ' if check.ok else 'FAIL'}  {name}: {check.detail}")
    return all(check.ok for check in checks.values())


async def _check(settings: Settings, backing: Backing) -> dict[str, Check]:
    database = Database.connect(backing.database_url, application="doctor", pool_size=5)
    state = build_state(settings, database, redis_url=backing.redis_url)
    try:
        return await _check_parts(state) | await check_clocks(state)
    finally:
        await state.redis.aclose()
        await database.close()


async def _check_parts(state: State) -> dict[str, Check]:
    try:
        return (await check_readiness(state)).checks
    except NotReady as error:
        return error.checks


def _metrics_place(settings: Settings) -> str:
    own_port = "" if settings.metrics_port is None else f", and on {settings.metrics_host}:{settings.metrics_port}"
    return f"at /metrics for admins{own_port}"


def _place(url: str, *, is_embedded: bool) -> str:
    """The server's address without user, password and options."""
    if is_embedded:
        return "embedded, in the data folder"
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2] + parts.path or "a local socket"
