"""How many connections to PostgreSQL a process has, and which of them are used again."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from sqlalchemy import text

from app import embedded
from app.core.errors import HiveError
from app.core.tcp import TCP_PROBES
from app.database import Database
from app.db import limit as connection_limit
from app.db import pool as driver_pool
from app.db.demand import Demand
from app.db.limit import Connection, Use
from app.server_checks import connection_demand
from tests.utils.databases import new_database, run_sql
from tests.utils.test_utils import wait_until_async
from tests.utils.ways import way

LOCK = 4_183_999
TAKE_LOCK = f"SELECT pg_advisory_xact_lock({LOCK})"
BACKEND = "SELECT pg_backend_pid()"

WRITE = "WITH rows AS (INSERT INTO written DEFAULT VALUES RETURNING 1) SELECT count(*) FROM rows"

Connect = Callable[..., Database]


class Kind(Protocol):
    """One use of a connection, and the first value of the answer."""

    def __call__(self, database: Database, sql: str = BACKEND, /) -> Coroutine[Any, Any, object]: ...


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    async with AsyncExitStack() as stack:

        def connect(
            url: str, *, pool_size: int, stands_still: bool = False, keeps_turns_for_reads: bool = True
        ) -> Database:
            database = Database.connect(
                url,
                application="test limit",
                pool_size=pool_size,
                stands_still=stands_still,
                keeps_turns_for_reads=keeps_turns_for_reads,
            )
            stack.push_async_callback(database.close)
            return database

        yield connect


async def by_transaction(database: Database, sql: str = BACKEND) -> object:
    async with database.unit_of_work() as transaction:
        return await transaction.scalar(text(sql))


async def by_statement(database: Database, sql: str = BACKEND) -> object:
    async with database.unit_of_work(is_one_statement=True) as transaction:
        return await (await transaction._connected(for_one=True)).fetchval(sql)


async def by_read(database: Database, sql: str = BACKEND) -> object:
    row = await database.read(sql, [])
    return row[0] if row else None


async def by_reading_transaction(database: Database, sql: str = BACKEND) -> object:
    async with database.unit_of_work(is_reading=True) as transaction:
        return await transaction.scalar(text(sql))


async def by_reading_statement(database: Database, sql: str = BACKEND) -> object:
    async with database.unit_of_work(is_one_statement=True, is_reading=True) as transaction:
        return await transaction.scalar(text(sql))


async def by_search(database: Database, sql: str = BACKEND) -> object:
    row = await database.search(sql, [])
    return row[0] if row else None


CHANGING_KINDS: list[Kind] = [by_transaction, by_statement]
READING_KINDS: list[Kind] = [by_read, by_reading_transaction, by_reading_statement]
KINDS: list[Kind] = [*CHANGING_KINDS, *READING_KINDS, by_search]


async def connections_to(url: str) -> int:
    found = await run_sql(url, "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'hive test limit%'")
    assert isinstance(found, int)
    return found


@pytest.fixture
async def own_url(servers: str) -> AsyncIterator[str]:
    """A database that no other test connects to."""
    async with new_database(servers, is_migrated=False) as url:
        yield url


async def test_all_kinds_of_use_share_the_limit(connect: Connect, own_url: str) -> None:
    database = connect(own_url, pool_size=4)
    most = 0
    for kinds in ([by_transaction], [by_statement], [by_read], [by_search], KINDS):
        await asyncio.gather(*(kind(database) for kind in kinds for _ in range(20)))
        most = max(most, await connections_to(own_url))

    assert 0 < most <= 4


async def test_idle_connections_of_one_kind_make_room_for_another(connect: Connect, own_url: str) -> None:
    database = connect(own_url, pool_size=2)
    async with held(by_read, database), held(by_transaction, database):
        pass

    assert await by_statement(database)
    assert await connections_to(own_url) <= 2


@asynccontextmanager
async def held(kind: Kind, database: Database) -> AsyncIterator[None]:
    """One use of a connection that goes on for as long as the block."""
    use = asyncio.create_task(kind(database, "SELECT pg_sleep(0.2)"))
    yield
    await use


@pytest.mark.parametrize(("pool_size", "changing"), [(2, 1), (3, 2), (4, 3), (8, 6)])
async def test_reads_do_not_wait_for_changes_that_wait_for_a_lock(
    connect: Connect, own_url: str, pool_size: int, changing: int
) -> None:
    database = connect(own_url, pool_size=pool_size)
    async with waiting_changes(connect(own_url, pool_size=1), database, own_url, changing):
        for kind in READING_KINDS:
            assert await kind(database)


@asynccontextmanager
async def waiting_changes(other: Database, database: Database, url: str, most_at_once: int) -> AsyncIterator[None]:
    """Changes of the database wait for a lock of the other one, as many as it lets, until the block ends.

    Others wait for their turn. How long they do is nothing of these tests.
    """
    async with other.unit_of_work() as transaction:
        await transaction.execute(text(TAKE_LOCK))
        uses = [kind for kind in CHANGING_KINDS for _ in range(most_at_once)]
        changes = [asyncio.create_task(kind(database, TAKE_LOCK)) for kind in uses]
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"

        async def are_waiting() -> bool:
            return await run_sql(url, waiting) == most_at_once

        await wait_until_async(are_waiting, what="changes that wait for the lock")
        yield
    await asyncio.gather(*changes, return_exceptions=True)


async def test_one_connection_serves_reads_and_changes_in_their_order(connect: Connect, own_url: str) -> None:
    database = connect(own_url, pool_size=1)
    async with waiting_changes(connect(own_url, pool_size=1), database, own_url, 1):
        reads = [asyncio.create_task(kind(database)) for kind in READING_KINDS]

    assert len(set(await asyncio.gather(*reads))) == 1


@pytest.mark.parametrize("pool_size", [1, 2, 3])
async def test_a_process_that_keeps_no_turns_for_reads_has_all_for_changes(
    connect: Connect, own_url: str, pool_size: int
) -> None:
    database = connect(own_url, pool_size=pool_size, keeps_turns_for_reads=False)
    async with waiting_changes(connect(own_url, pool_size=1), database, own_url, pool_size):
        pass


async def test_idle_connections_are_given_back(connect: Connect, own_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_limit, "IDLE_SECONDS", 0.1)
    database = connect(own_url, pool_size=8)
    await asyncio.gather(*(kind(database) for kind in KINDS for _ in range(4)))

    async def are_gone() -> bool:
        return await connections_to(own_url) == 0

    await wait_until_async(are_gone, what="the end of the idle connections")
    assert await by_transaction(database)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_connection_has_a_longest_life(
    connect: Connect, own_url: str, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    database = connect(own_url, pool_size=1)
    before = await kind(database)
    assert await kind(database) == before

    monkeypatch.setattr(connection_limit, "LONGEST_LIFE_SECONDS", 0.0)

    assert await kind(database) != before


@pytest.mark.parametrize("first", CHANGING_KINDS)
async def test_read_only_connections_are_dropped_after_the_first_refusal(
    connect: Connect, servers: str, own_url: str, first: Kind
) -> None:
    server, name = embedded.database_url(servers), urlsplit(own_url).path.removeprefix("/")
    await run_sql(own_url, "CREATE TABLE written ()")
    await run_sql(server, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    database = connect(own_url, pool_size=8)
    await asyncio.gather(*(kind(database, "SELECT pg_sleep(0.05)") for kind in KINDS for _ in range(2)))
    await run_sql(server, f"ALTER DATABASE {name} RESET default_transaction_read_only")

    with pytest.raises(HiveError) as refused:
        await first(database, WRITE)

    assert refused.value.error_code == "database_read_only"
    for kind in CHANGING_KINDS:
        await asyncio.gather(*(kind(database, WRITE) for _ in range(3)))
    assert await run_sql(own_url, "SELECT count(*) FROM written") == 6


async def test_a_burst_beyond_the_roles_limit_leaves_all_kinds_working(
    connect: Connect, own_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_limit, "IDLE_SECONDS", 0.2)
    role = f"limited_{uuid4().hex}"
    await run_sql(own_url, f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 3")
    url = own_url.replace("hive@", f"{role}@")
    # Two processes that may have more connections than there are.
    processes = [connect(url, pool_size=4) for _ in range(2)]

    await asyncio.gather(
        *(kind(process) for process in processes for kind in CHANGING_KINDS for _ in range(10)), return_exceptions=True
    )

    for process in processes:
        for kind in KINDS:

            async def works(process: Database = process, kind: Kind = kind) -> bool:
                with suppress(HiveError):
                    return bool(await kind(process))
                return False

            await wait_until_async(works, what="a connection that another process has given back")
    for process in processes:
        await process.close()
    await run_sql(own_url, f"DROP ROLE {role}")


async def test_a_process_goes_on_with_the_connections_that_it_was_given(connect: Connect, own_url: str) -> None:
    role = f"limited_{uuid4().hex}"
    await run_sql(own_url, f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 2")
    process = connect(own_url.replace("hive@", f"{role}@"), pool_size=8)

    # None of them is refused, though they want four times as many as there are.
    await asyncio.gather(*(kind(process, "SELECT pg_sleep(0.01)") for kind in KINDS for _ in range(20)))

    await process.close()
    await run_sql(own_url, f"DROP ROLE {role}")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_process_without_a_connection_waits_for_one_of_the_servers(
    connect: Connect, own_url: str, kind: Kind
) -> None:
    role = f"limited_{uuid4().hex}"
    await run_sql(own_url, f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 1")
    url = own_url.replace("hive@", f"{role}@")
    first, second = connect(url, pool_size=2), connect(url, pool_size=2)
    assert await kind(first)
    waiting = asyncio.create_task(kind(second))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(waiting), 0.1)

    await first.close()

    assert await waiting
    await second.close()
    await run_sql(own_url, f"DROP ROLE {role}")


async def test_connected_processes_are_added_up_against_what_the_server_gives(connect: Connect, own_url: str) -> None:
    name = urlsplit(own_url).path.removeprefix("/")
    await run_sql(own_url, f"ALTER DATABASE {name} CONNECTION LIMIT 20")
    for size in (4, 8):
        assert await by_read(connect(own_url, pool_size=size))

    demand, with_one_more = await connection_demand(own_url), await connection_demand(own_url, further=10)

    assert (demand, with_one_more) == (Demand(12, 20), Demand(22, 20))


async def test_a_connection_over_tcp_is_probed_by_the_kernel(own_url: str) -> None:
    folder = parse_qs(urlsplit(own_url).query)["host"][0]
    async with way(to=f"{folder}/.s.PGSQL.5432", by=None) as taken:
        database = Database.connect(
            f"postgresql://hive@127.0.0.1:{taken.port}{urlsplit(own_url).path}", application="test tcp", pool_size=4
        )
        async with database.unit_of_work() as transaction:
            connection = await transaction._connected()
            assert isinstance(connection, Connection)
            kept = connection._socket()
            assert {option: kept.getsockopt(socket.IPPROTO_TCP, option) for option in TCP_PROBES} == TCP_PROBES
        await database.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_cancelled_uses_give_their_turns_back(connect: Connect, own_url: str, kind: Kind) -> None:
    database = connect(own_url, pool_size=4)
    for number in range(40):
        uses = [asyncio.create_task(kind(database, "SELECT pg_sleep(0.002)")) for _ in range(6)]
        for _ in range(number):
            await asyncio.sleep(0)
        for use in uses[::2]:
            use.cancel()
        await asyncio.gather(*uses, return_exceptions=True)

    limit = database._connections._limit  # type: ignore[attr-defined]  # It's a pool here.
    assert [turns._value for turns in limit._turns_of[Use.SEARCH]] == [1, 3, 4]


async def test_a_hang_up_ends_no_connection_but_its_own(
    connect: Connect, own_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However slow the machine is.
    monkeypatch.setattr(driver_pool, "SUSPICIOUS_SECONDS", 1000.0)
    database = connect(own_url, pool_size=4)
    sleeping = [asyncio.create_task(by_read(database, "SELECT pg_backend_pid() FROM pg_sleep(0.2)")) for _ in range(2)]
    before = set(await asyncio.gather(*sleeping))
    assert len(before) == 2
    use = asyncio.create_task(by_read(database, "SELECT pg_sleep(30)"))
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(30)' AND state = 'active'"

    async def is_asleep() -> bool:
        return await run_sql(own_url, asleep) == 1

    await wait_until_async(is_asleep, what="the statement")
    use.cancel()
    await asyncio.gather(use, return_exceptions=True)

    assert await by_read(database) in before
