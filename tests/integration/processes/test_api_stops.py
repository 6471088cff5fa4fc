"""An API process that is told to stop while it answers: what was begun ends with its answer, and once."""

import asyncio
import os
import signal

import asyncpg
import httpx2
import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.models import Event, TaskStatus, User
from tests.builders.tasks import create_task
from tests.conftest import token_of
from tests.utils.processes import RunningApi, running_apis
from tests.utils.test_utils import PATIENCE, wait_until, wait_until_async

pytestmark = pytest.mark.committed

IN_PROGRESS = (
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name LIKE 'hive api%'"
)


async def test_requests_in_progress_end_with_their_answers(
    hive_environment: dict[str, str], settings: Settings, database_url: str, session: AsyncSession, user: User
) -> None:
    edited, claimed = [await create_task(session, owner=user, status=TaskStatus.AVAILABLE) for _ in range(2)]
    locking = await asyncpg.connect(database_url.replace("+asyncpg", ""))
    await locking.execute("BEGIN")
    await locking.execute("SELECT FROM tasks FOR UPDATE")

    with running_apis(1, hive_environment) as [api]:
        headers = {"Authorization": f"Bearer {token_of(user, settings)}"}
        async with httpx2.AsyncClient(base_url=api.base_url, headers=headers, timeout=PATIENCE) as client:
            requests = asyncio.gather(
                client.patch(f"/tasks/{edited.id}", json={"title": "Orchids"}),
                client.post(f"/tasks/{claimed.id}/claim", headers={"Idempotency-Key": "k"}),
            )

            async def both_are_in_progress() -> bool:
                # Within one transaction PostgreSQL shows what it showed the first time.
                await locking.execute("SELECT pg_stat_clear_snapshot()")
                return bool(await locking.fetchval(IN_PROGRESS) == 2)

            await wait_until_async(both_are_in_progress, what="the requests to be in progress")
            # As a service manager that signals all processes, and the main one once more.
            for _ in range(2):
                os.kill(api.process.process.pid, signal.SIGTERM)
            await asyncio.to_thread(wait_until, lambda: is_closed_to_new_ones(api), what="the stop to begin")
            await locking.close()
            answers = await requests

        assert await asyncio.to_thread(api.process.wait) == -signal.SIGTERM
        assert "Traceback" not in api.process.output

    assert [answer.status_code for answer in answers] == [200, 200]
    for task, answer in zip((edited, claimed), answers, strict=True):
        await session.refresh(task)
        assert (task.version, answer.json()["version"]) == (2, 2)
        after_creation = select(func.count()).where(Event.task_id == task.id, Event.task_version > 1)
        assert await session.scalar(after_creation) == 1
    assert (edited.title, claimed.assignee_id) == ("Orchids", user.id)


def is_closed_to_new_ones(api: RunningApi) -> bool:
    try:
        httpx2.get(f"{api.address}/health", timeout=PATIENCE)
    except httpx2.ConnectError:
        return True
    return False
