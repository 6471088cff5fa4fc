"""Each way in which a server can't be used has its own sentence, with the cause and the way out, and no secret."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

import asyncpg
import pytest
from pydantic import SecretStr

from app import embedded, server_checks
from app.backing import Backing, locate_backing
from app.causes.redis import BROKER
from app.config import ConfigurationError, Settings
from app.core import redis as core_redis
from app.core.errors import UNAVAILABLE, UNUSABLE, from_database
from app.database import driver_options
from app.server_checks import refuse_unusable, why_broker_unusable, why_database_unusable, why_redis_unusable
from tests.utils.certificates import make_certificate
from tests.utils.databases import run_sql
from tests.utils.odd_pooler import pooler
from tests.utils.odd_servers import (
    Handler,
    answering,
    closing,
    listening,
    postgres_refusing,
    postgres_with_tls,
    silent,
)
from tests.utils.own_valkey import running_valkey
from tests.utils.test_utils import PATIENCE

SECRET = "geheim"
NO_PASSWORD_SET = (
    "-ERR AUTH <password> called without any password configured for the default user. "
    "Are you sure your configuration is correct?"
)
HTTP = answering(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine takes a second for TLS alone, and what comes in time is told otherwise than what doesn't."""
    monkeypatch.setattr(core_redis, "CONNECT_SECONDS", PATIENCE)
    monkeypatch.setattr(server_checks, "CHECK_SECONDS", PATIENCE)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


def postgres_at(place: str, options: str = "") -> str:
    return f"postgresql://ada:{SECRET}@{place}/hive{options}"


REFUSALS = [
    ("08P01", "unsupported startup parameter: statement_timeout", "refuses HIVE's settings of a connection", False),
    ("08P01", 'prepared statement "s" does not exist', "pool_mode=transaction", False),
    ("26000", 'prepared statement "__asyncpg_1" does not exist', "pool_mode=transaction", False),
    ("42P05", 'prepared statement "__asyncpg_1" already exists', "pool_mode=transaction", False),
    ("08P01", "no more connections allowed (max_client_conn)", "too many connections", True),
    ("28P01", f'password authentication failed for user "{SECRET}"', "refuses the user or the password", False),
    ("28000", 'role "ada" does not exist', "has no such role", False),
    ("28000", 'role "ada" is not permitted to log in', "may not sign in", False),
    ("28000", 'no pg_hba.conf entry for host "192.0.2.1"', "pg_hba.conf", False),
    ("28000", "connection requires a valid client certificate", "wants a certificate", False),
    ("3D000", 'database "hive" does not exist', "no such database", False),
    ("53300", "sorry, too many clients already", "too many connections", True),
    ("53300", 'too many connections for role "ada"', "raise the CONNECTION LIMIT", True),
    ("53300", 'too many connections for database "hive"', "raise the CONNECTION LIMIT", True),
    ("57P03", "the database system is starting up", "is starting up", True),
    ("57P03", "the database system is in recovery mode", "is recovering", True),
    ("57P03", "the database system is shutting down", "is shutting down", True),
    ("42704", 'unrecognized configuration parameter "colour"', "has the option colour", False),
    ("22023", 'invalid value for parameter "work_mem": "x"', "option work_mem has a value", False),
    ("42501", "permission denied for database", "lacks a right", False),
    ("0A000", "unsupported frontend protocol 3.0", "too old", False),
    ("53100", "could not write: No space left on device", "disk is full", True),
    ("58P01", "could not open file", "its own files", True),
]


@pytest.mark.parametrize(("sqlstate", "message", "told", "may_pass"), REFUSALS)
async def test_each_refusal_of_postgresql_has_its_cause(
    stack: AsyncExitStack, sqlstate: str, message: str, told: str, may_pass: bool
) -> None:
    port = await stack.enter_async_context(listening(postgres_refusing(sqlstate, message)))

    cause = await why_database_unusable(postgres_at(f"127.0.0.1:{port}", "?sslmode=disable"))

    assert cause is not None
    assert told in cause.sentence
    assert SECRET not in cause.sentence
    assert cause.may_pass == may_pass


@pytest.mark.parametrize(("sqlstate", "message", "told", "may_pass"), REFUSALS)
async def test_the_answer_says_to_try_again_only_where_that_may_mend_it(
    stack: AsyncExitStack, sqlstate: str, message: str, told: str, may_pass: bool
) -> None:
    port = await stack.enter_async_context(listening(postgres_refusing(sqlstate, message)))
    with pytest.raises(asyncpg.PostgresError) as raised:
        await asyncpg.connect(**driver_options(postgres_at(f"127.0.0.1:{port}", "?sslmode=disable"), application="x"))

    answer = from_database(raised.value)

    assert answer is not None
    assert answer.status_code == 503
    assert told in answer.reason
    if answer.error_code == "database_unavailable":
        assert answer.detail == (UNAVAILABLE if may_pass else UNUSABLE)


@pytest.mark.parametrize(
    ("handler", "options", "told"),
    [
        (HTTP, "", "is no PostgreSQL"),
        (answering(b"N"), "?sslmode=require", "offers no TLS"),
        (closing, "", "closed the connection"),
        (silent, "", "did not answer in time"),
        (HTTP, "?sslmode=disable", "is another server"),
    ],
)
async def test_what_is_no_postgresql_is_told(
    stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch, handler: Handler, options: str, told: str
) -> None:
    if handler is silent:
        monkeypatch.setattr(server_checks, "CHECK_SECONDS", 0.5)
    port = await stack.enter_async_context(listening(handler))

    cause = await why_database_unusable(postgres_at(f"127.0.0.1:{port}", options))

    assert cause is not None
    assert told in cause.sentence


@pytest.mark.parametrize(
    ("name", "trusted", "told"),
    [("IP:127.0.0.1", False, "signed by nobody"), ("DNS:other.example", True, "for another name than the host")],
)
async def test_a_certificate_that_is_refused_is_told(
    stack: AsyncExitStack, settings: Settings, tmp_path: Path, name: str, trusted: bool, told: str
) -> None:
    certificate = make_certificate(tmp_path, name=name)
    (tmp_path / "other").mkdir()
    authority = certificate.path if trusted else make_certificate(tmp_path / "other").path
    postgres = await stack.enter_async_context(listening(postgres_with_tls(certificate.server_context)))
    redis = await stack.enter_async_context(listening(silent, certificate.server_context))

    causes = [
        await why_database_unusable(
            postgres_at(f"127.0.0.1:{postgres}", f"?sslmode=verify-full&sslrootcert={authority}")
        ),
        await why_redis_unusable(settings, f"rediss://:{SECRET}@127.0.0.1:{redis}/0?ssl_ca_certs={authority}"),
    ]

    for cause in causes:
        assert cause is not None
        assert told in cause.sentence
        assert not cause.may_pass


@pytest.mark.parametrize("place", ["127.0.0.1:1", "nowhere.invalid"])
async def test_what_may_pass_is_waited_for_and_not_refused(settings: Settings, place: str) -> None:
    await refuse_unusable(settings, Backing(postgres_at(place), f"redis://{place}"))


@pytest.mark.parametrize(
    ("answer", "told", "may_pass"),
    [
        ("-WRONGPASS invalid username-password pair or user is disabled.", "refuses the user or the password", False),
        ("-NOAUTH Authentication required.", "wants a password", False),
        (
            NO_PASSWORD_SET,
            "has no password",
            False,
        ),
        ("-NOPERM User hive has no permissions to run the 'ping' command", "may not run the command PING", False),
        ("-NOPERM No permissions to access a key", "one of HIVE's keys", False),
        ("-NOPERM No permissions to access a channel", "one of HIVE's channels", False),
        ("-LOADING Redis is loading the dataset in memory", "still loading", True),
        ("-MISCONF Redis is configured to save RDB snapshots", "can't save its data", True),
        ("-READONLY You can't write against a read only replica.", "is a replica", True),
        ("-OOM command not allowed when used memory > 'maxmemory'.", "maxmemory", True),
        ("-ERR max number of clients reached", "too many clients", True),
        ("-ERR DB index is out of range", "no database of the number", False),
        ("-CLUSTERDOWN Hash slot not served", "is a cluster", False),
        ("-MOVED 3999 127.0.0.1:6381", "is a cluster", False),
        ("-ERR SELECT is not allowed in cluster mode", "is a cluster", False),
        ("-ERR unknown command 'HELLO'", "lacks a command", False),
        ("-DENIED Redis is running in protected mode", "protected mode", False),
        ("HTTP/1.1 400 Bad Request", "did not answer as Redis does", False),
    ],
)
async def test_each_refusal_of_redis_has_its_cause(
    stack: AsyncExitStack, settings: Settings, answer: str, told: str, may_pass: bool
) -> None:
    port = await stack.enter_async_context(listening(answering(f"{answer}\r\n".encode())))
    url = f"redis://:{SECRET}@127.0.0.1:{port}/3"

    for cause in (await why_redis_unusable(settings, url), await why_broker_unusable(url, BROKER)):
        assert cause is not None
        assert told in cause.sentence
        assert SECRET not in cause.sentence
        assert cause.may_pass == may_pass


async def test_tls_where_there_is_none_and_the_other_way_round_is_told(
    stack: AsyncExitStack, settings: Settings, tmp_path: Path
) -> None:
    plain = await stack.enter_async_context(listening(HTTP))
    secured = await stack.enter_async_context(listening(closing, make_certificate(tmp_path).server_context))

    without = await why_redis_unusable(settings, f"rediss://127.0.0.1:{plain}")
    wanted = await why_redis_unusable(settings, f"redis://127.0.0.1:{secured}")

    assert without is not None
    assert "does not speak TLS" in without.sentence
    assert wanted is not None
    assert "wants TLS" in wanted.sentence


@pytest.mark.parametrize(
    ("name", "url", "told"),
    [
        ("database_url", f"postgresql://ada:{SECRET}/x@host/hive", "can't be read"),
        ("database_url", f"postgresql://ada:{SECRET}@host:port/hive", "can't be read"),
        ("database_url", f"postgresql://ada:{SECRET}@[::1/hive", "can't be read"),
        ("database_url", f"postgresql://ada:{SECRET}@host/hive?sslrootcert=/nowhere.pem", "sslrootcert names a file"),
        ("database_url", f"postgresql://ada:{SECRET}@host/hive?sslcert=/nowhere.pem", "sslcert names a file"),
        ("redis_url", f"redis://:{SECRET}@host:port", "can't be read"),
        ("redis_url", f"redis://:{SECRET}@host/first", "number of a database"),
        ("redis_url", f"redis://:{SECRET}@host?colour=red", "the option colour"),
        ("redis_url", f"redis://:{SECRET}@host?socket_timeout=long", "socket_timeout"),
        ("redis_url", f"rediss://:{SECRET}@host?ssl_ca_certs=/nowhere.pem", "ssl_ca_certs names a file"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_before_any_connection(
    settings: Settings, name: str, url: str, told: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        locate_backing(settings.model_copy(update={name: SecretStr(url)}))

    assert str(refused.value).startswith(f"{name.upper()} can't be used: ")
    assert told in str(refused.value)
    assert SECRET not in str(refused.value)


async def test_the_real_servers_can_be_used(settings: Settings, database_url: str, redis_url: str) -> None:
    await refuse_unusable(settings, Backing(database_url, redis_url))

    assert await why_database_unusable(database_url) is None
    assert await why_redis_unusable(settings, redis_url) is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda url: url.replace("://hive@", "://nobody_at_all@"), "no such role"),
        (lambda url: url.replace("/test_", "/none_"), "no such database"),
        (lambda url: f"{url}&colour=red", "the option colour"),
        (lambda url: f"{url}&work_mem=much", "option work_mem"),
    ],
)
async def test_what_the_real_postgresql_refuses_is_refused_at_start(
    settings: Settings, database_url: str, redis_url: str, change: Callable[[str], str], told: str
) -> None:
    with pytest.raises(ConfigurationError, match=told):
        await refuse_unusable(settings, Backing(change(database_url), redis_url))


async def test_a_role_without_connections_left_is_told_and_waited_for(
    settings: Settings, servers: str, database_url: str, redis_url: str
) -> None:
    role = f"crowded_{uuid4().hex[:8]}"
    server = embedded.database_url(servers)
    await run_sql(server, f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 0")
    url = database_url.replace("://hive@", f"://{role}@")

    cause = await why_database_unusable(url)
    await refuse_unusable(settings, Backing(url, redis_url))
    await run_sql(server, f"DROP ROLE {role}")

    assert cause is not None
    assert "CONNECTION LIMIT" in cause.sentence


async def test_a_real_redis_that_wants_a_password_is_refused_at_start(
    settings: Settings, database_url: str, tmp_path: Path
) -> None:
    with running_valkey(tmp_path, f"requirepass {SECRET}") as port:
        for url, told in {
            f"redis://127.0.0.1:{port}": "wants a password",
            f"redis://:wrong@127.0.0.1:{port}": "refuses the user or the password",
            f"redis://:{SECRET}@127.0.0.1:{port}/99": "no database of the number",
        }.items():
            with pytest.raises(ConfigurationError, match=told):
                await refuse_unusable(settings, Backing(database_url, url))


@pytest.mark.parametrize("shares_session", [True, False])
async def test_a_pooler_is_refused_at_start_if_it_pools_by_transaction(
    settings: Settings, database_url: str, redis_url: str, shares_session: bool
) -> None:
    parts = urlsplit(database_url)
    folder = dict(parse_qsl(parts.query))["host"]
    async with pooler(f"{folder}/.s.PGSQL.5432", shares_session=shares_session) as port:
        url = f"postgresql://hive@127.0.0.1:{port}{parts.path}?sslmode=disable"
        if shares_session:
            with pytest.raises(ConfigurationError, match="pool_mode=transaction"):
                await refuse_unusable(settings, Backing(url, redis_url))
        else:
            await refuse_unusable(settings, Backing(url, redis_url))
            assert await why_database_unusable(url) is None
