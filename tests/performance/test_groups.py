"""That each part of the benchmark works on a running HIVE. How fast it is here says nothing."""

import os
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.core.security import hash_password
from app.models import Event, Task
from bench.ceilings.writes import TASKS_OF_A_CLIENT, pgbench
from bench.extent import SHORT
from bench.groups.delay import Changes, delays_of_ceiling, delays_of_hive
from bench.groups.events import idle, replay
from bench.groups.reads import page_address, require_same_answers
from bench.groups.writes import CHANGES, Change
from bench.load.plan import Load, get
from bench.load.programs import put_under
from bench.own_system import BenchedSystem, Person
from bench.people import PASSWORD, sign_in
from bench.processes import Listening, bare_events, listening
from bench.rows import Rows, is_draft, person_id, task_id
from bench.stage import Site
from bench.vital_signs import cpu_seconds, processes_of, pss_kib, rss_kib
from tests.builders.users import create_user
from tests.conftest import RunningSystem, token_of
from tests.utils.processes import free_port

TASKS = 1_000

pytestmark = pytest.mark.usefixtures("sessions")


@pytest.fixture
async def benched_system(
    session: AsyncSession, running_system: RunningSystem, hive_environment: dict[str, str], settings: Settings
) -> BenchedSystem:
    users = [await create_user(session) for _ in range(SHORT.people)]
    return BenchedSystem(
        address=running_system.address.removesuffix("/api/v1"),
        environment=hive_environment,
        database_url=hive_environment["DATABASE_URL"],
        redis_url=hive_environment["REDIS_URL"],
        people=[Person(user.id, token_of(user, settings)) for user in users],
    )


@pytest.fixture
async def site(running_system: RunningSystem, database_url: str) -> Site:
    rows = Rows(database_url)
    await rows.make(TASKS, password_hash=await hash_password(PASSWORD))
    address = running_system.address.removesuffix("/api/v1")
    return Site(TASKS, database_url, Listening(address, pid=0), await sign_in(address, 8))


@pytest.mark.committed
async def test_rows_are_as_their_numbers_say(session: AsyncSession, site: Site) -> None:
    tasks = {str(task.id): task for task in await session.scalars(select(Task))}

    assert len(tasks) == TASKS
    for number in (0, 3, 13, 999):
        task = tasks[task_id(number)]
        assert (task.status == "draft") is is_draft(number)
        assert str(task.owner_id) == person_id(number)
    assert {status: sum(t.status == status for t in tasks.values()) for status in ("draft", "completed")} == {
        "draft": TASKS // 10,
        "completed": TASKS // 4,
    }


@pytest.mark.committed
async def test_the_ceiling_of_reads_answers_what_hive_does(site: Site, hive_environment: dict[str, str]) -> None:
    port = free_port()
    command = ["bench.ceilings.bare_api", str(port), site.database_url]
    async with listening(hive_environment, command, port) as bare:
        await require_same_answers(site, bare, 0)


@pytest.mark.committed
async def test_a_later_page_begins_where_it_is_said_to(site: Site) -> None:
    third = await page_address(site, 3)
    # The owner's own drafts are among them.
    seen = [n for n in reversed(range(TASKS)) if not is_draft(n) or person_id(n) == person_id(0)][100:150]

    requests = [get(third, token=site.tokens[0], marker=f'"id":"{task_id(number)}"') for number in seen]
    await put_under(Load((site.api.port,), requests, connections=5, once=True, warm_up=0))


@pytest.mark.committed
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
async def test_hive_and_the_ceiling_of_writes_leave_the_same_events(
    session: AsyncSession, site: Site, change: Change
) -> None:
    await Rows(site.database_url).make_startable(2 * TASKS_OF_A_CLIENT, owners=8, owned=TASKS_OF_A_CLIENT)
    requests = change.requests(site, 1, 0)
    # The first step of one task, and the next of the same.
    some = [requests[0], requests[TASKS_OF_A_CLIENT] if len(requests) > TASKS_OF_A_CLIENT else requests[1]]
    # A worker may be at the jobs that follow.
    of_tasks = Event.type.startswith("task.")
    await put_under(Load((site.api.port,), some, connections=1, once=True, warm_up=0))
    ours = list(await session.scalars(select(Event).where(of_tasks).order_by(Event.position)))

    rate = await pgbench(change.script, site.database_url, clients=1, seconds=1, first=TASKS_OF_A_CLIENT)

    theirs = list(await session.scalars(select(Event).where(Event.position > ours[-1].position, of_tasks)))
    assert len(ours) == 2
    assert rate.per_second > 0
    assert {event.type for event in ours} == {event.type for event in theirs}


@pytest.mark.committed
async def test_every_reader_of_a_change_and_of_a_burst_is_waited_for(benched_system: BenchedSystem) -> None:
    api = Listening(benched_system.address, pid=0)
    # Slowly: on a busy machine an answer takes a second, and those that come after the last one was due don't count.
    changes = Changes(SHORT.changes, per_second=4, burst=SHORT.burst)

    ours = await delays_of_hive(benched_system, [api], SHORT.sockets, changes)
    async with bare_events(benched_system) as bare:
        theirs = await delays_of_ceiling(benched_system, bare, SHORT.sockets, ours.texts, changes)

    assert ours.texts == theirs.texts
    assert len(ours.milliseconds) == len(theirs.milliseconds) == SHORT.changes
    assert ours.burst_per_second is not None
    assert theirs.burst_per_second is not None


@pytest.mark.committed
async def test_replay_and_idle_sockets_are_told_of(benched_system: BenchedSystem) -> None:
    figures = [*await replay(benched_system, SHORT), *await idle(benched_system, SHORT)]

    assert [figure.unit for figure in figures] == ["s", "s", "s", "KiB"]


def test_the_kernel_is_asked_rightly(tmp_path: Path) -> None:
    here = os.getpid()

    assert cpu_seconds(here) > 0
    assert 0 < pss_kib(here) <= rss_kib(here)
    assert processes_of(str(tmp_path)) == {}
