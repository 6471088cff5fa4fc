"""Looking after jobs: by the API for admins, by `hive jobs` on the machine."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.models import Job, JobName, JobState
from tests.utils.processes import HiveProcess
from tests.utils.test_utils import problem

FAR = datetime(2100, 1, 1, tzinfo=UTC)


async def make_job(session: AsyncSession, state: JobState, **values: Any) -> Job:
    done_at = datetime.now(UTC) if state is JobState.DONE else None
    usual = {"name": JobName.NOTIFY, "arguments": {}, "run_after": FAR, "done_at": done_at}
    job = Job(state=state, **(usual | values))
    session.add(job)
    await session.commit()
    return job


async def test_an_admin_sees_jobs_newest_first_by_state_and_name(
    signed_in_admin: httpx2.AsyncClient, session: AsyncSession
) -> None:
    done = await make_job(session, JobState.DONE, created_at=datetime.now(UTC) - timedelta(minutes=2))
    dead = await make_job(session, JobState.DEAD, last_error="ValueError: no", attempts=8)
    mail = await make_job(session, JobState.DEAD, name=JobName.SEND_MAIL)

    async def ids(query: str = "") -> list[str]:
        return [job["id"] for job in (await signed_in_admin.get(f"/admin/jobs{query}")).json()]

    assert set(await ids()) == {str(job.id) for job in (done, dead, mail)}
    assert (await ids())[-1] == str(done.id)
    assert set(await ids("?state=dead")) == {str(dead.id), str(mail.id)}
    assert await ids("?state=dead&name=send_mail") == [str(mail.id)]
    assert len(await ids("?state=dead&state=done&limit=1")) == 1
    [shown] = (await signed_in_admin.get("/admin/jobs?state=dead&name=notify")).json()
    assert (shown["last_error"], shown["attempts"], shown["state"]) == ("ValueError: no", 8, "dead")
    assert problem(await signed_in_admin.get("/admin/jobs?state=lost"), 422)["errors"][0]["in"] == "query"


def hive_jobs(environment: dict[str, str], *arguments: str) -> tuple[int, str]:
    """The exit code and all that the command said."""
    with HiveProcess(["-m", "app.cli", "jobs", *arguments], environment) as command:
        return command.wait(), command.output


@pytest.mark.committed
async def test_the_command_lists_retries_and_purges(hive_environment: dict[str, str], session: AsyncSession) -> None:
    dead = await make_job(session, JobState.DEAD, last_error="ValueError: no\nand more", attempts=8, sends=9)
    other = await make_job(session, JobState.DEAD)
    done = await make_job(session, JobState.DONE)

    code, said = hive_jobs(hive_environment, "list", "--state", "dead")
    assert (code, said.count("\n")) == (0, 2)
    assert f"{dead.id}  dead" in said
    assert "notify  ValueError: no\n" in said

    assert hive_jobs(hive_environment, "retry", str(dead.id)) == (0, "1 will be tried again.\n")
    await session.refresh(dead)
    assert (dead.state, dead.attempts, dead.sends) == (JobState.WAITING, 0, 0)
    await session.commit()

    assert hive_jobs(hive_environment, "purge") == (0, "Forgot 1.\n")
    assert hive_jobs(hive_environment, "purge", "--dead", "--older-than", "1") == (0, "Forgot 0.\n")
    assert hive_jobs(hive_environment, "purge", "--dead") == (0, "Forgot 1.\n")
    left = set(await session.scalars(select(Job.id)))
    assert left == {dead.id}
    assert not {other.id, done.id} & left


@pytest.mark.committed
async def test_what_the_command_can_not_do_it_says_in_a_sentence(
    hive_environment: dict[str, str], session: AsyncSession
) -> None:
    done = await make_job(session, JobState.DONE)

    assert hive_jobs(hive_environment, "retry") == (1, "hive: say which jobs by their ids, or --all.\n")
    code, said = hive_jobs(hive_environment, "retry", str(done.id))
    assert (code, said) == (1, "hive: only 0 of these 1 jobs are dead; those will be tried again.\n")
    code, said = hive_jobs(hive_environment, "list", "--state", "lost")
    assert (code, said.count("\n")) == (1, 1)
    assert said.startswith("hive: state: Input should be ")
    away = hive_environment | {"DATABASE_URL": "postgresql://hive@/hive?host=/nowhere/at-all"}
    code, said = hive_jobs(away, "list")
    assert code == 1
    assert said.endswith("hive: The socket in DATABASE_URL is not there: start PostgreSQL, or correct the path.\n")
