"""What HIVE tells the holder of a token, for every kind of token."""

from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app.models import Scope, TaskStatus, User
from tests.builders.agents import create_agent
from tests.builders.tasks import create_task
from tests.builders.tokens import create_token
from tests.conftest import ClientWith

NEXT_YEAR = datetime(2099, 1, 1, tzinfo=UTC)


async def test_a_session_is_told_its_account_and_what_it_holds(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, other_user: User
) -> None:
    until = datetime.now(UTC) + timedelta(minutes=5)
    lease = {"lease_token": 3, "lease_expires_at": until, "lease_seconds": 300}
    leased = await create_task(session, owner=other_user, assignee=user, status=TaskStatus.IN_PROGRESS, **lease)
    held = await create_task(session, owner=user, status=TaskStatus.IN_PROGRESS, title="Roses", lease_token=1)
    for status in (TaskStatus.COMPLETED, TaskStatus.AVAILABLE):
        await create_task(session, owner=user, status=status)
    await create_task(session, owner=user, assignee=other_user, status=TaskStatus.IN_PROGRESS)

    answer = await signed_in.get("/whoami")

    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["account"] == {
        "id": str(user.id),
        "display_name": "Ada",
        "type": "user",
        "owner_id": None,
        "is_admin": False,
    }
    assert (told["token_kind"], told["scopes"]) == ("session", None)
    assert datetime.fromisoformat(told["expires_at"]) > datetime.now(UTC)
    by_id = {each["task_id"]: each for each in told["holds"]}
    assert by_id.keys() == {str(leased.id), str(held.id)}
    first, second = by_id[str(leased.id)], by_id[str(held.id)]
    assert (first["title"], first["lease_token"]) == ("Water the orchids", 3)
    assert datetime.fromisoformat(first["lease_expires_at"]) == until
    assert (second["title"], second["lease_token"], second["lease_expires_at"]) == ("Roses", 1, None)
    assert user.email not in answer.text


async def test_an_api_token_is_told_its_scopes_and_its_end(
    client_with: ClientWith, session: AsyncSession, admin: User
) -> None:
    scopes = [Scope.TASKS_WRITE, Scope.EVENTS_READ]
    client = await client_with(await create_token(session, admin, scopes=scopes, expires_at=NEXT_YEAR))

    told = (await client.get("/whoami")).json()

    assert (told["token_kind"], told["scopes"]) == ("api_token", ["events:read", "tasks:write"])
    assert datetime.fromisoformat(told["expires_at"]) == NEXT_YEAR
    assert (told["account"]["is_admin"], told["holds"]) == (True, [])


async def test_an_agent_is_told_whose_it_is(client_with: ClientWith, session: AsyncSession, user: User) -> None:
    agent = await create_agent(session, owner=user)
    task = await create_task(session, owner=user, assignee=agent, status=TaskStatus.IN_PROGRESS)
    client = await client_with(await create_token(session, agent))

    told = (await client.get("/whoami")).json()

    assert (told["token_kind"], told["expires_at"]) == ("agent_token", None)
    assert (told["account"]["type"], told["account"]["owner_id"]) == ("agent", str(user.id))
    assert [each["task_id"] for each in told["holds"]] == [str(task.id)]


@pytest.mark.parametrize("scopes", [[], [Scope.EVENTS_READ]])
async def test_a_token_without_tasks_is_told_of_none(
    client_with: ClientWith, session: AsyncSession, user: User, scopes: list[Scope]
) -> None:
    await create_task(session, owner=user, status=TaskStatus.IN_PROGRESS)
    client = await client_with(await create_token(session, user, scopes=scopes))

    told = (await client.get("/whoami")).json()

    assert (told["scopes"], told["holds"]) == ([str(scope) for scope in scopes], None)
