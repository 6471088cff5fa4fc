"""Changes of accounts, and of who holds tasks, at once: they wait for each other, and none ends in a deadlock."""

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

import httpx2
import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import SQLSTATE_ERRORS
from app.core.permissions import Actor
from app.database import Database
from app.models import TaskStatus, User
from app.services.operator import Operator
from app.services.user_admin import UserAdmin
from tests.builders.agents import create_agent
from tests.builders.tasks import create_task
from tests.builders.users import create_user
from tests.conftest import ClientAs
from tests.integration.api.test_batch import assign, send, update
from tests.utils.test_utils import problem, wait_for_lock_waiter, wait_until_async

pytestmark = pytest.mark.committed

DEADLOCK = "40P01"
WAITING = text(
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    " AND application_name LIKE 'hive tests%'"
)
Asked = Coroutine[Any, Any, httpx2.Response]


async def all_at_once(
    session: AsyncSession, database: Database, people: list[User], asked: list[Asked]
) -> list[httpx2.Response]:
    """The answers to requests each of which waits for an account before any of them goes on."""

    async def do_all_wait() -> bool:
        # Within one transaction PostgreSQL shows what it showed the first time.
        await session.commit()
        return bool(await session.scalar(WAITING) == len(asked))

    async with database.unit_of_work() as holder:
        ids = [person.id for person in people]
        await holder.execute(select(User.id).where(User.id.in_(ids)).with_for_update())
        begun = [asyncio.create_task(each) for each in asked]
        await wait_until_async(do_all_wait, what="all of them waiting")
    return await asyncio.gather(*begun)


@pytest.mark.parametrize("seed", range(6))
async def test_whoever_needs_several_accounts_waits_for_them_in_one_order(
    client_as: ClientAs, session: AsyncSession, database: Database, seed: int
) -> None:
    chance = random.Random(seed)
    # Of admins and others either may be the older ones.
    people = [
        await create_user(session, is_admin=is_admin) for is_admin in chance.sample([True, True, False, False], 4)
    ]
    first, second = (each for each in people if each.is_admin)
    leaver, owner = (each for each in people if not each.is_admin)
    agents = [await create_agent(session, owner=leaver, is_active=is_active) for is_active in (True, False)]
    tasks = [await create_task(session, owner=owner) for _ in range(4)]
    held = await create_task(session, owner=owner, assignee=leaver, status=TaskStatus.COMPLETED)
    operator, other = await client_as(first), await client_as(second)
    maker = await client_as(owner)
    receivers = [leaver, first, second, agents[0]]
    chance.shuffle(receivers)
    asked = [
        operator.post(f"/admin/users/{leaver.id}/deactivate"),
        other.post(f"/admin/users/{agents[1].id}/reactivate"),
        (await client_as(leaver)).delete("/users/me"),
        send(maker, "atomic", *(assign(task, each) for task, each in zip(tasks, receivers, strict=True))),
        maker.patch(f"/tasks/{held.id}", json={"owner_id": str(second.id), "status": "in_progress"}),
        send(maker, "each", update(held, body={"owner_id": str(first.id), "status": "in_progress"})),
    ]
    chance.shuffle(asked)

    answers = await all_at_once(session, database, [*people, *agents], asked)

    # Who is late may be refused.
    assert {answer.status_code for answer in answers} <= {200, 401, 403, 404, 409, 503}
    told = "".join(answer.text for answer in answers)
    assert SQLSTATE_ERRORS[DEADLOCK][2] not in told


async def test_who_is_made_an_admin_while_leaving_is_told_to_try_again(
    client_as: ClientAs, session: AsyncSession, database: Database, admin: User, user: User
) -> None:
    client = await client_as(user)
    async with database.unit_of_work() as holder:
        await UserAdmin(holder).promote(Operator(Actor.of(admin), address=""), user.id)
        leaving = asyncio.create_task(client.delete("/users/me"))
        await wait_for_lock_waiter(session)
        # Nothing that others need to make or unmake admins is waited for with the account locked.
        await holder.execute(select(User.id).where(User.id == user.id).with_for_update())

    assert problem(await leaving, 503)["code"] == "try_again"
    await session.refresh(user)
    assert (user.is_active, user.is_admin) == (True, True)
