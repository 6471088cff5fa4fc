"""Many changes in one request: by the rules of single ones, all or nothing or each by itself."""

import asyncio
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.limits.answers import MAX_BYTES_IN_FLIGHT
from app.limits.turns import MOST_WAITING, Turns
from app.models import Event, Job, JobName, Task, TaskStatus, User, UserTaskAssociation
from tests.builders.tasks import create_task
from tests.integration.api.test_blockers import block
from tests.utils.test_utils import events_of, problem

Item = dict[str, Any]
KEY = {"Idempotency-Key": "one-batch"}


def update(task: Task, **more: Any) -> Item:
    return {"op": "update", "id": str(task.id), "body": {"title": "Roses"}} | more


def step(task: Task, status: str) -> Item:
    return {"op": "status", "id": str(task.id), "body": {"status": status}}


def assign(task: Task, user: User) -> Item:
    return {"op": "assign", "id": str(task.id), "body": {"user_id": str(user.id)}}


def delete(task: Task) -> Item:
    return {"op": "delete", "id": str(task.id)}


CREATE: Item = {"op": "create", "body": {"title": "Tulips", "status": "available"}}


async def send(client: httpx2.AsyncClient, mode: str, *items: Item, **more: Any) -> httpx2.Response:
    return await client.post("/tasks/batch", json={"mode": mode, "items": items}, **more)


async def count(session: AsyncSession, model: type[Any]) -> int:
    return await session.scalar(select(func.count()).select_from(model)) or 0


@pytest.mark.parametrize("mode", ["atomic", "each"])
async def test_each_kind_of_change_is_made_and_told_as_it_is_by_itself(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, other_user: User, mode: str
) -> None:
    edited, started, given, gone = [await create_task(session, owner=user) for _ in range(4)]
    items = [CREATE, update(edited), step(started, "in_progress"), assign(given, other_user), delete(gone)]

    answer = await send(signed_in, mode, *items)

    assert answer.status_code == 200, answer.text
    results = answer.json()["items"]
    assert [set(result) for result in results] == [{"status", "body"}] * 5
    assert [result["status"] for result in results] == [201, 200, 200, 200, 200]
    made, *changed = [result["body"] for result in results[:4]]
    for body in (made, *changed):
        assert body == (await signed_in.get(f"/tasks/{body['id']}")).json()
    assert results[4]["body"] == {"message": "Task deleted"}
    assert [body["version"] for body in changed] == [2, 2, 2]
    assert changed[2]["assignee_id"] == str(other_user.id)
    events = await session.scalars(select(Event.type).order_by(Event.position))
    assert list(events) == [
        "task.created",
        "task.updated",
        "task.status_changed",
        "task.assigned",
        "task.deleted",
    ]
    holders = set(await session.scalars(select(UserTaskAssociation.user_id)))
    assert holders == {user.id, other_user.id}


async def refused_items(session: AsyncSession, user: User, other: User) -> list[tuple[Item, str, str]]:
    """Items that `user` may not or can't do, with the single request that is the same."""
    hidden = await create_task(session, owner=other, status=TaskStatus.DRAFT)
    foreign = await create_task(session, owner=other)
    blocked, blocker = [await create_task(session, owner=user) for _ in range(2)]
    completed = await create_task(session, owner=user, status=TaskStatus.COMPLETED)
    await block(session, blocked, blocker)
    return [
        (update(hidden), "PATCH", f"/tasks/{hidden.id}"),
        (delete(foreign), "DELETE", f"/tasks/{foreign.id}"),
        (step(blocked, "in_progress"), "PUT", f"/tasks/{blocked.id}/status"),
        (step(blocked, "completed"), "PUT", f"/tasks/{blocked.id}/status"),
        (assign(blocked, other), "POST", f"/tasks/{blocked.id}/assign"),
        (assign(completed, other), "POST", f"/tasks/{completed.id}/assign"),
        (update(blocker, if_match='"7"'), "PATCH", f"/tasks/{blocker.id}"),
        (
            {"op": "assign", "id": str(blocker.id), "body": {"user_id": str(uuid4())}},
            "POST",
            f"/tasks/{blocker.id}/assign",
        ),
    ]


async def test_what_is_refused_leaves_the_others_and_is_told_as_it_is_by_itself(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, other_user: User
) -> None:
    refused = await refused_items(session, user, other_user)
    task = await create_task(session, owner=user)

    answer = await send(signed_in, "each", *(item for item, _, _ in refused), update(task))

    *results, last = answer.json()["items"]
    assert (last["status"], last["body"]["title"]) == (200, "Roses")
    assert await count(session, Event) == 1
    for result, (item, method, path) in zip(results, refused, strict=True):
        headers = {"If-Match": item["if_match"]} if "if_match" in item else {}
        alone = await signed_in.request(method, path, json=item.get("body"), headers=headers)
        expected = problem(alone, result["status"])
        assert result["problem"] == expected | {"request_id": answer.headers["X-Request-Id"]}
    assert [result["status"] for result in results] == [404, 403, 409, 409, 409, 409, 412, 404]


@pytest.mark.parametrize("which", range(8))
async def test_all_or_nothing_is_nothing_when_one_is_refused(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, other_user: User, which: int
) -> None:
    item, _, _ = (await refused_items(session, user, other_user))[which]
    tasks = [await create_task(session, owner=user, status=TaskStatus.IN_PROGRESS) for _ in range(3)]
    before = await count(session, Task)
    [told] = (await send(signed_in, "each", item)).json()["items"]

    answer = await send(
        signed_in, "atomic", CREATE, update(tasks[0]), step(tasks[1], "completed"), item, delete(tasks[2])
    )

    refusal = problem(answer, told["status"])
    assert (refusal["code"], refusal["index"]) == ("batch_failed", 3)
    assert refusal["problem"] == told["problem"] | {"request_id": refusal["request_id"]}
    assert (await count(session, Task), await count(session, Event), await count(session, Job)) == (before, 0, 0)
    for task in tasks:
        await session.refresh(task)
        assert (task.version, task.status) == (1, TaskStatus.IN_PROGRESS)


async def test_a_step_has_its_consequences(signed_in: httpx2.AsyncClient, session: AsyncSession, user: User) -> None:
    task = await create_task(session, owner=user)
    blockers = [await create_task(session, owner=user, status=TaskStatus.IN_PROGRESS) for _ in range(3)]
    await block(session, task, *blockers)

    answer = await send(signed_in, "atomic", *(step(each, "completed") for each in blockers), step(task, "in_progress"))

    # It became ready within the same transaction, and is begun by its last item.
    assert [result["status"] for result in answer.json()["items"]] == [200] * 4
    assert [event.type for event in await events_of(session, task)] == ["task.ready", "task.status_changed"]
    assert len(list(await session.scalars(select(Job).where(Job.name == JobName.RECOMPUTE_IMPACT_SCORE)))) == 3


async def test_items_about_the_same_task_follow_each_other(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user)
    twice = update(task, body={"title": "Tulips"}, if_match='"1"')

    answer = await send(signed_in, "each", update(task, if_match='"1"'), twice, delete(task), update(task))

    assert [result["status"] for result in answer.json()["items"]] == [200, 412, 200, 404]
    assert answer.json()["items"][1]["problem"]["current"]["title"] == "Roses"
    assert [event.task_version for event in await events_of(session, task)] == [2, 3]


@pytest.mark.parametrize(
    ("body", "place", "code"),
    [
        ({"mode": "some", "items": [CREATE]}, "/mode", "enum"),
        ({"items": [CREATE]}, "/mode", "missing"),
        ({"mode": "each", "items": []}, "/items", "too_short"),
        ({"mode": "each", "items": [CREATE] * 101}, "/items", "too_long"),
        ({"mode": "each", "items": [CREATE, {"op": "burn"}]}, "/items/1", "union_tag_invalid"),
        ({"mode": "each", "items": [{"body": {}}]}, "/items/0", "union_tag_not_found"),
        ({"mode": "each", "items": ["create"]}, "/items/0", "model_attributes_type"),
        ({"mode": "each", "items": [CREATE, {"op": "create", "body": {"title": ""}}]}, "/items/1/body/title", None),
        ({"mode": "each", "items": [{"op": "create", "body": {}}]}, "/items/0/body/title", "missing"),
        ({"mode": "each", "items": [{"op": "create"}]}, "/items/0/body", "missing"),
        ({"mode": "each", "items": [CREATE | {"id": str(uuid4())}]}, "/items/0/id", "extra_forbidden"),
        ({"mode": "each", "items": [{"op": "delete", "id": "7"}]}, "/items/0/id", "uuid_parsing"),
        (
            {"mode": "each", "items": [{"op": "delete", "id": str(uuid4()), "if_match": "7"}]},
            "/items/0/if_match",
            "invalid_etag",
        ),
        (
            {"mode": "each", "items": [{"op": "update", "id": str(uuid4()), "body": {"assignee_id": "me"}}]},
            "/items/0/body/assignee_id",
            "extra_forbidden",
        ),
    ],
)
async def test_what_is_malformed_is_named_by_its_place(
    signed_in: httpx2.AsyncClient, session: AsyncSession, body: Mapping[str, Any], place: str, code: str | None
) -> None:
    answer = await signed_in.post("/tasks/batch", json=body)

    [fault] = problem(answer, 422)["errors"]
    assert (fault["pointer"], fault["in"]) == (place, "body")
    assert code in (None, fault["code"])
    assert await count(session, Task) == 0


@pytest.mark.parametrize("mode", ["atomic", "each"])
async def test_under_a_key_a_batch_has_its_effect_once(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, mode: str
) -> None:
    task = await create_task(session, owner=user)

    first = await send(signed_in, mode, CREATE, update(task), headers=KEY)
    again = await send(signed_in, mode, CREATE, update(task), headers=KEY)

    assert (first.status_code, again.headers["Idempotency-Replayed"]) == (200, "true")
    assert again.content == first.content
    assert (await count(session, Task), await count(session, Event)) == (2, 2)


async def test_a_batch_that_failed_stays_so_under_its_key(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user, status=TaskStatus.DRAFT)

    first = await send(signed_in, "atomic", CREATE, step(task, "in_progress"), headers=KEY)
    again = await send(signed_in, "atomic", CREATE, step(task, "in_progress"), headers=KEY)

    assert problem(first, 409)["code"] == "batch_failed"
    assert (again.json(), again.headers["Idempotency-Replayed"]) == (first.json(), "true")
    assert (await count(session, Task), await count(session, Event)) == (1, 0)


async def test_a_server_can_want_a_condition_of_each_item(
    app: FastAPI, signed_in: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user)
    state = app.state.hive
    strict = {"settings": state.settings.model_copy(update={"require_if_match": True})}
    app.state.hive = type(state)(**{name: getattr(state, name) for name in state.__dataclass_fields__} | strict)

    answer = await send(signed_in, "each", CREATE, update(task), update(task, if_match='"1"'), delete(task))

    results = answer.json()["items"]
    assert [result["status"] for result in results] == [201, 428, 200, 428]
    assert results[1]["problem"]["code"] == "precondition_required"


async def test_a_hundred_are_done(signed_in: httpx2.AsyncClient, session: AsyncSession) -> None:
    answer = await send(signed_in, "atomic", *[CREATE] * 100)

    assert [result["status"] for result in answer.json()["items"]] == [201] * 100
    assert (await count(session, Task), await count(session, Event)) == (100, 100)


async def test_a_body_that_looks_like_a_choice_is_told_of_as_any_other(signed_in: httpx2.AsyncClient) -> None:
    item = {"op": "create", "create": [1], "body": {"title": 1}}

    answer = await signed_in.post("/tasks/batch", json={"mode": "each", "items": [item]})

    problem(answer, 422)


async def test_a_batch_is_refused_while_clients_take_too_many_large_answers(
    app: FastAPI, signed_in: httpx2.AsyncClient, session: AsyncSession
) -> None:
    answers = app.state.hive.answers
    with answers.holding(MAX_BYTES_IN_FLIGHT):
        refused = await send(signed_in, "each", CREATE, headers=KEY)

    assert problem(refused, 503)["code"] == "too_busy"
    assert refused.headers["Retry-After"]
    assert await count(session, Task) == 0
    again = await send(signed_in, "each", CREATE, headers=KEY)
    assert [result["status"] for result in again.json()["items"]] == [201]


async def test_a_user_whose_batches_wait_already_holds_up_nobody_else(
    app: FastAPI, signed_in: httpx2.AsyncClient, signed_in_other: httpx2.AsyncClient, user: User
) -> None:
    turns = app.state.hive.limits.batches
    async with turns.of(str(user.id)), turns.of(str(user.id)):
        waiting = [asyncio.create_task(_wait(turns, user)) for _ in range(MOST_WAITING)]
        await asyncio.sleep(0)
        refused, others = await send(signed_in, "each", CREATE), await send(signed_in_other, "each", CREATE)
    await asyncio.gather(*waiting)

    assert problem(refused, 503)["code"] == "too_busy"
    assert others.status_code == 200
    assert (await send(signed_in, "each", CREATE)).status_code == 200


async def _wait(turns: Turns, user: User) -> None:
    async with turns.of(str(user.id)):
        pass
