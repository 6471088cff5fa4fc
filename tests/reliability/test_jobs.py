"""Jobs while what carries them and does them is killed, emptied and frozen: each has its effect, and has it once."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from app.models import TaskStatus
from tests.builders.tasks import create_task
from tests.reliability.blows import Blows
from tests.reliability.scale import Report, Scale
from tests.reliability.system import ChaosSystem
from tests.utils.test_utils import wait_until_async

pytestmark = pytest.mark.reliability

CALM_SECONDS = 60
PEOPLE = 20
# Effects between two blows, so that each one falls on a system at work.
PROGRESS = 5

# A score that is computed twice is the same, and a notification that is written twice is there once, which would hide
# that a job was done again. So this database counts each time that an effect is written, in its very transaction, and
# forgets the score, so that the next time is a change again. That takes a moment, in which a blow may meet the work
# half done. The marks of jobs as done are counted in the same way.
COUNTING = (
    "CREATE TABLE effects (subject uuid, transaction xid8)",
    "CREATE TABLE marks (job_id uuid, subject uuid, transaction xid8)",
    """
    CREATE FUNCTION count_score() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO effects VALUES (NEW.id, pg_current_xact_id());
        PERFORM pg_sleep(0.05);
        NEW.impact_score := 0;
        RETURN NEW;
    END $$
    """,
    """
    CREATE FUNCTION count_notification() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO effects VALUES (NEW.event_id, pg_current_xact_id());
        PERFORM pg_sleep(0.05);
        RETURN NEW;
    END $$
    """,
    """
    CREATE FUNCTION count_mark() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO marks VALUES (
            NEW.id,
            coalesce(NEW.arguments ->> 'user_id', NEW.arguments ->> 'event_id')::uuid,
            pg_current_xact_id()
        );
        RETURN NULL;
    END $$
    """,
    "CREATE TRIGGER counted BEFORE UPDATE OF impact_score ON users FOR EACH ROW EXECUTE FUNCTION count_score()",
    "CREATE TRIGGER counted BEFORE INSERT ON notifications FOR EACH ROW EXECUTE FUNCTION count_notification()",
    """
    CREATE TRIGGER counted AFTER UPDATE ON jobs FOR EACH ROW
    WHEN (NEW.state = 'done' AND NEW.name IN ('recompute_impact_score', 'notify')) EXECUTE FUNCTION count_mark()
    """,
)
COUNTED = """
    SELECT (SELECT count(*) FROM jobs WHERE name IN ('recompute_impact_score', 'notify')) AS jobs_asked_for,
           (SELECT count(DISTINCT job_id) FROM marks) AS jobs_marked_as_done,
           (SELECT count(*) FROM marks) AS marks,
           (SELECT count(*) FROM effects) AS effects,
           (SELECT count(*) FROM (
                SELECT FROM marks JOIN effects USING (transaction, subject) GROUP BY transaction HAVING count(*) = 1
           ) AS pairs) AS transactions_of_one_effect_and_its_mark
"""

Complete = Callable[[int], Coroutine[Any, Any, None]]


async def test_each_job_has_its_effect_once(scale: Scale, report: Report) -> None:
    # Each task that somebody else completes asks for two jobs: a score, and a notification of the owner.
    tasks = scale(500, short=40)
    async with ChaosSystem(apis=1, relays=1, workers=2, schedulers=1, settings={"WORKER_CONCURRENCY": "2"}) as system:
        for statement in COUNTING:
            await system.sql(statement)
        blows = Blows(system)
        rain = scale(blows.heavy(), short=blows.light())
        async with completing(system, tasks) as complete:
            for blow, share in zip(rain, shares(tasks, len(rain)), strict=True):
                asking = asyncio.create_task(complete(share))
                await until_at_work(system, asking)
                await blow()
                await asking
        calm = time.monotonic()
        report.add("jobs left when calm began", 2 * tasks - await count(system, "marks"))
        await until_all_are_done(system, 2 * tasks)
        report.add("seconds from then to the last effect", f"{time.monotonic() - calm:.1f}")
        await until_queue_is_empty(system)
        await tell(report, system, blows)

        [counted] = await system.sql(COUNTED)
        assert dict(counted) == dict.fromkeys(counted.keys(), 2 * tasks)
        assert await system.sql("SELECT name, last_error FROM jobs WHERE state = 'dead'") == []


@asynccontextmanager
async def completing(system: ChaosSystem, number: int) -> AsyncIterator[Complete]:
    """Of that many tasks, completes so many more each time it's called, by their holders."""
    async with AsyncExitStack() as stack:
        owner = await system.user("Owner")
        holders = [await system.user(f"Holder {n}") for n in range(PEOPLE)]
        clients = [await stack.enter_async_context(system.client(holder)) for holder in holders]
        left = []
        async with system.database.unit_of_work() as session:
            for n in range(number):
                holder, status = holders[n % PEOPLE], TaskStatus.IN_PROGRESS
                task = await create_task(session, owner=owner, assignee=holder, status=status, impact_points=1)
                left.append((clients[n % PEOPLE], task.id))

        async def complete(share: int) -> None:
            for _ in range(share):
                client, task_id = left.pop()
                answer = await client.put(f"/tasks/{task_id}/status", json={"status": "completed"})
                assert answer.status_code == 200, answer.text

        yield complete


def shares(total: int, number: int) -> Sequence[int]:
    """`total` in that many parts, as equal as can be."""
    return [total // number + (n < total % number) for n in range(number)]


async def until_at_work(system: ChaosSystem, asking: asyncio.Task[None]) -> None:
    before = await count(system, "effects")

    async def is_at_work() -> bool:
        if asking.done():
            # If it broke off, there is nothing to wait for.
            asking.result()
        return await count(system, "effects") >= before + PROGRESS

    await wait_until_async(is_at_work, timeout=CALM_SECONDS, what=f"{PROGRESS} more effects")


async def until_all_are_done(system: ChaosSystem, jobs: int) -> None:
    async def are_done() -> bool:
        return await count(system, "marks") >= jobs

    await wait_until_async(are_done, timeout=CALM_SECONDS, what=f"{jobs} jobs to be done")


async def until_queue_is_empty(system: ChaosSystem) -> None:
    """What is still in it comes a second time, and must do nothing."""

    async def is_empty() -> bool:
        return not await system.redis.exists("hive:celery:hive", "hive:celery:hive:3")

    await wait_until_async(is_empty, timeout=CALM_SECONDS, what="an empty queue")


async def count(system: ChaosSystem, table: str) -> int:
    [[number]] = await system.sql(f"SELECT count(*) FROM {table}")
    return int(number)


async def tell(report: Report, system: ChaosSystem, blows: Blows) -> None:
    for what, times in blows.struck.items():
        report.add(what, times)
    [counted] = await system.sql(COUNTED)
    for what, number in counted.items():
        report.add(what.replace("_", " "), number)
    [[sends, most_sends, most_attempts]] = await system.sql(
        "SELECT sum(sends)::int, max(sends), max(attempts) FROM jobs"
    )
    report.add("messages sent", sends)
    report.add("at most for one job", f"{most_sends} messages, {most_attempts} attempts")
