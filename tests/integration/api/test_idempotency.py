"""A request under an `Idempotency-Key` has one effect, however often it comes, and the same answer each time."""

import asyncio
import hashlib
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import Database
from app.models import Event, IdempotentRequest, Task, TaskStatus, User
from app.services.idempotency_service import IdempotencyService
from app.services.task_service import TaskService
from tests.builders.tasks import create_task
from tests.builders.users import PASSWORD
from tests.conftest import ClientAs
from tests.utils.serving import Serving
from tests.utils.test_utils import events_of, problem, wait_for_lock_waiter

KEY = {"Idempotency-Key": "one-effect"}
ROSES = {"title": "Roses"}


async def count(session: AsyncSession, model: type[Any]) -> int:
    return await session.scalar(select(func.count()).select_from(model)) or 0


async def test_a_request_that_comes_again_has_no_second_effect_and_the_same_answer(
    signed_in: httpx2.AsyncClient, session: AsyncSession
) -> None:
    first = await signed_in.post("/tasks", json=ROSES, headers=KEY)
    again = await signed_in.post("/tasks/", json=ROSES, headers=KEY)

    assert (first.status_code, again.status_code) == (201, 201)
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.content == first.content
    for name in ("Location", "ETag", "Content-Type"):
        assert again.headers[name] == first.headers[name]
    assert (await count(session, Task), await count(session, Event)) == (1, 1)


async def test_another_body_another_key_another_user_and_another_path_are_other_requests(
    signed_in: httpx2.AsyncClient, signed_in_other: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    first = await signed_in.post("/tasks", json=ROSES, headers=KEY)

    other_body = await signed_in.post("/tasks", json={"title": "Tulips"}, headers=KEY)
    other_key = await signed_in.post("/tasks", json=ROSES, headers={"Idempotency-Key": "another"})
    other_user = await signed_in_other.post("/tasks", json=ROSES, headers=KEY)
    other_path = await signed_in.post(
        f"/tasks/{first.json()['id']}/assign", json={"user_id": str(user.id)}, headers=KEY
    )

    assert problem(other_body, 422)["code"] == "idempotency_key_reused"
    assert [answer.status_code for answer in (other_key, other_user, other_path)] == [201, 201, 200]
    assert await count(session, Task) == 3


async def test_a_refusal_is_an_outcome_too(signed_in: httpx2.AsyncClient, session: AsyncSession, user: User) -> None:
    task = await create_task(session, owner=user, status=TaskStatus.DRAFT)

    refused = await signed_in.post(f"/tasks/{task.id}/claim", headers=KEY)
    await signed_in.put(f"/tasks/{task.id}/status", json={"status": "available"})
    again = await signed_in.post(f"/tasks/{task.id}/claim", headers=KEY)

    assert problem(refused, 409)["code"] == "not_available"
    assert (again.status_code, again.json()) == (409, refused.json())
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Content-Type"] == "application/problem+json"


async def test_what_the_database_refuses_is_kept_and_leaves_nothing(
    client: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    body = {"email": user.email.upper(), "password": PASSWORD, "display_name": "Again"}

    refused = await client.post("/auth/register", json=body, headers=KEY)
    again = await client.post("/auth/register", json=body, headers=KEY)

    assert problem(refused, 409)["code"] == "email_taken"
    assert again.headers["Idempotency-Replayed"] == "true"
    assert await count(session, User) == 1


async def test_an_account_is_made_once(client: httpx2.AsyncClient, session: AsyncSession) -> None:
    body = {"email": "new@example.org", "password": PASSWORD, "display_name": "New"}

    answers = [await client.post("/auth/register", json=body, headers=KEY) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()
    kept = await session.scalar(select(IdempotentRequest.body))
    assert PASSWORD not in str(kept)


async def test_strangers_who_choose_the_same_key_do_not_meet(app: FastAPI, session: AsyncSession) -> None:
    body = {"email": "new@example.org", "password": PASSWORD}

    async def register(address: str, **given: str) -> httpx2.Response:
        transport = httpx2.ASGITransport(app, client=(address, 1))
        async with httpx2.AsyncClient(transport=transport, base_url="http://hive.test/api/v1") as stranger:
            return await stranger.post("/auth/register", json=body | given, headers=KEY)

    first = await register("192.0.2.1")
    neighbour = await register("192.0.2.1", email="other@example.org")
    elsewhere = await register("192.0.2.2")
    guesser = await register("192.0.2.1", password="a password that is guessed")

    assert [first.status_code, neighbour.status_code] == [201, 201]
    assert problem(elsewhere, 409)["code"] == "email_taken"
    assert problem(guesser, 422)["code"] == "idempotency_key_reused"
    assert not [answer for answer in (neighbour, elsewhere) if "Idempotency-Replayed" in answer.headers]
    assert await count(session, User) == 2
    assert "one-effect" not in (await session.scalars(select(IdempotentRequest.key))).all()


@pytest.mark.parametrize("body", ["", "[]", "{", "[" * 5_000, '{"email": 1}', '{"email": "no address"}'])
async def test_a_key_of_nothing_readable_is_refused_as_the_body_is(client: httpx2.AsyncClient, body: str) -> None:
    headers = KEY | {"Content-Type": "application/json"}

    assert (await client.post("/auth/register", content=body, headers=headers)).status_code == 422


async def test_what_was_not_understood_may_come_again_mended(signed_in: httpx2.AsyncClient) -> None:
    wrong = await signed_in.post("/tasks", json={"titel": "Roses"}, headers=KEY)
    mended = await signed_in.post("/tasks", json=ROSES, headers=KEY)

    assert (wrong.status_code, mended.status_code) == (422, 201)


async def test_a_condition_that_can_not_be_read_may_come_again_mended(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user)

    wrong = await signed_in.post(f"/tasks/{task.id}/claim", headers=KEY | {"If-Match": "nonsense"})
    mended = await signed_in.post(f"/tasks/{task.id}/claim", headers=KEY | {"If-Match": "*"})

    assert (wrong.status_code, mended.status_code) == (422, 200)


async def test_what_is_kept_of_a_registration_does_not_give_the_password_away(
    client: httpx2.AsyncClient, session: AsyncSession
) -> None:
    body = b'{"email": "new@example.org", "password": "correct horse battery", "display_name": "New"}'
    await client.post("/auth/register", content=body, headers=KEY | {"Content-Type": "application/json"})

    kept = await session.scalar(select(IdempotentRequest.body_hash))

    assert kept is not None
    assert kept != hashlib.sha256(body).hexdigest()


async def test_what_broke_is_tried_again(
    signed_in: httpx2.AsyncClient, session: AsyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = TaskService.create

    async def create_and_break(*arguments: Any) -> Task:
        await create(*arguments)
        raise ZeroDivisionError

    monkeypatch.setattr(TaskService, "create", create_and_break)
    broken = await signed_in.post("/tasks", json=ROSES, headers=KEY)
    monkeypatch.undo()
    again = await signed_in.post("/tasks", json=ROSES, headers=KEY)

    assert (broken.status_code, again.status_code) == (500, 201)
    assert "Idempotency-Replayed" not in again.headers
    assert await count(session, Task) == 1


async def test_a_stranger_gets_nothing_by_a_key(client: httpx2.AsyncClient, signed_in: httpx2.AsyncClient) -> None:
    await signed_in.post("/tasks", json=ROSES, headers=KEY)

    assert problem(await client.post("/tasks", json=ROSES, headers=KEY), 401)


async def test_who_has_left_gets_nothing_by_a_key(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    await signed_in.post("/tasks", json=ROSES, headers=KEY)
    user.is_active = False
    await session.commit()

    assert problem(await signed_in.post("/tasks", json=ROSES, headers=KEY), 401)


@pytest.mark.parametrize("key", ["", "with space", "ä", "x" * 256])
async def test_a_key_is_visible_ascii(signed_in: httpx2.AsyncClient, key: str) -> None:
    headers = {b"Idempotency-Key": key.encode("latin-1")}
    answer = await signed_in.post("/tasks", json=ROSES, headers=headers)

    [fault] = problem(answer, 422)["errors"]
    assert (fault["pointer"], fault["in"]) == ("/idempotency-key", "header")


async def test_a_key_holds_for_a_day_and_its_answer_is_then_forgotten(
    signed_in: httpx2.AsyncClient, serving: Serving, session: AsyncSession
) -> None:
    async def age(hours: float) -> None:
        await session.execute(update(IdempotentRequest).values(created_at=func.now() - timedelta(hours=hours)))
        await session.commit()

    await signed_in.post("/tasks", json=ROSES, headers=KEY)
    await age(23.9)
    await serving(IdempotencyService).purge()
    assert "Idempotency-Replayed" in (await signed_in.post("/tasks", json=ROSES, headers=KEY)).headers
    await age(24.1)
    assert "Idempotency-Replayed" not in (await signed_in.post("/tasks", json=ROSES, headers=KEY)).headers
    assert await count(session, Task) == 2
    await age(24.1)
    await serving(IdempotencyService).purge()
    assert await count(session, IdempotentRequest) == 0


@pytest.mark.committed
async def test_while_the_first_is_running_the_others_are_told_so(
    signed_in: httpx2.AsyncClient, session: AsyncSession, database: Database, user: User
) -> None:
    task = await create_task(session, owner=user)
    async with database.unit_of_work() as holder:
        await holder.execute(text("SELECT FROM tasks WHERE id = :id FOR UPDATE"), {"id": task.id})
        first = asyncio.create_task(signed_in.post(f"/tasks/{task.id}/claim", headers=KEY))
        await wait_for_lock_waiter(session)
        second = await signed_in.post(f"/tasks/{task.id}/claim", headers=KEY)

    assert problem(second, 409)["code"] == "request_in_progress"
    assert second.headers["Retry-After"] == "1"
    assert (await first).status_code == 200
    again = await signed_in.post(f"/tasks/{task.id}/claim", headers=KEY)
    assert (again.json(), again.headers["Idempotency-Replayed"]) == ((await first).json(), "true")


@pytest.mark.committed
async def test_of_twenty_at_once_and_again_after_a_restart_one_has_an_effect(
    app: FastAPI, client_as: ClientAs, session: AsyncSession, database: Database, user: User
) -> None:
    async def post_until_answered() -> httpx2.Response:
        client = await client_as(user)
        while (answer := await client.post("/tasks", json=ROSES, headers=KEY)).status_code == 409:
            assert problem(answer, 409)["code"] == "request_in_progress"
        return answer

    answers = await asyncio.gather(*(post_until_answered() for _ in range(20)))
    # What a process remembers is gone; what it has kept is in the database.
    app.state.hive = type(app.state.hive)(
        **{name: getattr(app.state.hive, name) for name in app.state.hive.__dataclass_fields__}
    )
    answers.append(await post_until_answered())

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert sum("Idempotency-Replayed" not in answer.headers for answer in answers) == 1
    [task] = await session.scalars(select(Task))
    assert len(await events_of(session, task)) == 1
