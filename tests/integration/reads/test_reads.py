"""What PostgreSQL writes as JSON is what the response models say of the same rows."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.db.statements import Statement
from app.models import EventLog, Scope, Task, TaskPriority, TaskStatus, User
from app.reads import task_reads
from app.reads.task_statements import one_task
from app.schemas.task import TaskResponse
from tests.builders.tasks import create_task
from tests.builders.tokens import create_token
from tests.conftest import ClientAs, ClientWith, token_of
from tests.utils.test_utils import problem

AWKWARD_TEXT = '"quoted" \\ / <b> \t\n\r \u2028 \u202e 𝄞 é e\u0301 日本 \x7f \\u0000 NaN'
SOON = datetime(2026, 12, 24, 18, tzinfo=UTC)

AWKWARD: Mapping[str, dict[str, Any]] = {
    "as plain as can be": {},
    "texts": {"title": AWKWARD_TEXT, "description": AWKWARD_TEXT * 50, "category": "\\"},
    "empty texts": {"title": "", "description": "", "category": ""},
    "numbers": {"impact_points": 2**63 - 1, "version": 2**53 + 1},
    "a whole second": {"due_at": SOON, "created_at": SOON, "updated_at": SOON},
    "a tenth of a second": {"due_at": SOON + timedelta(microseconds=100_000)},
    "the first microsecond": {"due_at": SOON + timedelta(microseconds=1)},
    "the last microsecond": {"due_at": SOON + timedelta(microseconds=999_999)},
    "the earliest": {"due_at": datetime(1970, 1, 1, tzinfo=UTC)},
    "the latest": {"due_at": datetime(2999, 12, 31, 23, 59, 59, 999_999, UTC)},
    "a draft": {"status": TaskStatus.DRAFT, "priority": TaskPriority.URGENT},
    "completed": {"status": TaskStatus.COMPLETED},
    "held for good": {"status": TaskStatus.IN_PROGRESS, "lease_token": 7},
    "held for a time": {
        "status": TaskStatus.IN_PROGRESS,
        "lease_token": 2**53,
        "lease_expires_at": SOON,
        "lease_seconds": 60,
    },
}


def as_written(task: Task, viewer: User) -> Any:
    return json.loads(TaskResponse.of(task, viewer=viewer.id).model_dump_json())


@pytest.mark.parametrize("overrides", AWKWARD.values(), ids=AWKWARD)
async def test_a_task_is_read_as_the_model_writes_it(
    client_as: ClientAs, session: AsyncSession, user: User, other_user: User, admin: User, overrides: dict[str, Any]
) -> None:
    task = await create_task(session, owner=user, **overrides)
    await session.refresh(task)
    for viewer in (user, admin) if task.status is TaskStatus.DRAFT else (user, other_user, admin):
        client = await client_as(viewer)

        one = await client.get(f"/tasks/{task.id}")
        many = await client.get("/tasks")

        assert one.json() == as_written(task, viewer)
        # Dictionaries are equal in any order.
        assert list(one.json()) == list(TaskResponse.model_fields)
        assert many.json() == [one.json()]
        assert one.headers["content-type"] == many.headers["content-type"] == "application/json"
        assert one.headers["etag"] == f'"{task.version}"'


async def test_a_list_is_what_the_model_writes_row_by_row(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    tasks = [await create_task(session, owner=user, **overrides) for overrides in AWKWARD.values()]
    for task in tasks:
        await session.refresh(task)

    answer = await signed_in.get("/tasks?sort=due_at")

    in_order = sorted(tasks, key=lambda task: (task.due_at is None, task.due_at or SOON, task.id))
    assert answer.json() == [as_written(task, user) for task in in_order]


async def test_a_list_without_tasks_is_an_empty_list(signed_in: httpx2.AsyncClient, session: AsyncSession) -> None:
    log = await session.get_one(EventLog, 1)

    answer = await signed_in.get("/tasks?status=completed")

    assert answer.content == b"[]"
    assert answer.headers["hive-seq"] == str(log.last_seq)
    assert answer.headers["hive-epoch"] == str(log.epoch)
    assert "link" not in answer.headers


async def test_the_position_is_the_one_of_the_log(signed_in: httpx2.AsyncClient, session: AsyncSession) -> None:
    await session.execute(update(EventLog).values(last_seq=2**53 - 1))
    await session.commit()

    assert (await signed_in.get("/tasks")).headers["hive-seq"] == str(2**53 - 1)


async def test_whoever_asks_in_the_same_way_is_answered_what_they_asked_for(
    client_as: ClientAs, session: AsyncSession, user: User, other_user: User, admin: User
) -> None:
    """Statements are made once; what one has asked for must not be answered to the next."""
    mine = await create_task(session, owner=user, status=TaskStatus.DRAFT, category="mine", due_at=SOON)
    theirs = await create_task(
        session, owner=other_user, status=TaskStatus.DRAFT, category="theirs", due_at=SOON + timedelta(days=2),
        title="Feed the bees", priority=TaskPriority.HIGH,
    )  # fmt: skip
    held = await create_task(session, owner=user, assignee=other_user, status=TaskStatus.IN_PROGRESS, due_at=SOON)
    between = (SOON + timedelta(days=1)).isoformat().replace("+00:00", "Z")
    asked: list[tuple[User, str, list[Task]]] = [
        (user, "", [held, mine]),
        (other_user, "", [held, theirs]),
        (admin, "", [held, theirs, mine]),
        (user, "?owner=me", [held, mine]),
        (other_user, "?owner=me", [theirs]),
        (other_user, f"?owner={user.id}", [held]),
        (other_user, f"?owner={other_user.id}", [theirs]),
        (admin, "?assignee=none", [theirs, mine]),
        (user, "?assignee=me", []),
        (other_user, "?assignee=me", [held]),
        (admin, "?status=draft", [theirs, mine]),
        (admin, "?status=in_progress", [held]),
        (admin, "?status=draft&status=in_progress", [held, theirs, mine]),
        (admin, "?category=mine", [mine]),
        (admin, "?category=theirs", [theirs]),
        (admin, "?priority=high", [theirs]),
        (admin, "?priority=medium", [held, mine]),
        (admin, "?q=bees", [theirs]),
        (admin, "?q=orchids", [held, mine]),
        (admin, "?q=me", []),
        (admin, f"?due_before={between}", [held, mine]),
        (admin, f"?due_after={between}", [theirs]),
        (admin, "?limit=1", [held]),
        (admin, "?limit=2", [held, theirs]),
    ]
    # Twice, so that each way to ask has been asked by somebody else before.
    for viewer, query, expected in asked * 2:
        answer = await (await client_as(viewer)).get(f"/tasks{query}")

        assert [UUID(each["id"]) for each in answer.json()] == [task.id for task in expected], (viewer, query)
    for viewer, status in ((user, 200), (other_user, 404), (admin, 200), (user, 200)):
        assert (await (await client_as(viewer)).get(f"/tasks/{mine.id}")).status_code == status


def test_only_what_is_in_a_closed_vocabulary_can_be_fixed_in_a_statement() -> None:
    with pytest.raises(TypeError, match="give it a name"):
        Statement.of(select(Task.id).where(Task.owner_id == UUID(int=1)))


# Each in its plain form, and in another one that says the same.
SPELLINGS = [
    ("/tasks/{id}", "/tasks/{ID}"),
    ("/tasks/{id}/", "/tasks/{ID}/"),
    ("/tasks", "/tasks?limit=50&limit=50"),
    ("/tasks?limit=1&category=general", "/tasks?limit=1&category=general&limit=1"),
    ("/tasks?status=available&status=draft&limit=7", "/tasks?status=available&status=draft&limit=7&limit=7"),
    ("/tasks?q=orch%C3%AFds&owner=me&ready=false", "/tasks?q=orch%C3%AFds&owner=me&ready=false&ready=false"),
    ("/tasks?due_before=2026-12-24T18:00:00%2B01:00", "/tasks?due_before=2026-12-24T18:00:00%2B01:00&limit=9&limit=50"),
]
CONDITIONS: list[dict[str, str]] = [{}, {"If-None-Match": '"1"'}, {"If-None-Match": "*"}, {"If-None-Match": "nonsense"}]


@pytest.mark.parametrize(("plain", "odd"), SPELLINGS)
@pytest.mark.parametrize("headers", CONDITIONS)
async def test_answer_is_the_same_however_the_request_is_written(
    client_as: ClientAs,
    session: AsyncSession,
    user: User,
    other_user: User,
    plain: str,
    odd: str,
    headers: dict[str, str],
) -> None:
    task = await create_task(session, owner=user, title="Wässere die Orchïds", due_at=SOON - timedelta(days=1))
    await create_task(session, owner=user, status=TaskStatus.DRAFT)
    names = {"id": str(task.id), "ID": str(task.id).upper()}
    for viewer in (user, other_user):
        client = await client_as(viewer)

        answer = await client.get(plain.format(**names), headers=headers)
        other = await client.get(odd.format(**names), headers=headers)

        assert (answer.status_code, without_id(answer)) == (other.status_code, without_id(other))
        compared = {"content-type", "etag", "hive-seq", "hive-epoch", "content-length"}
        assert {name: answer.headers.get(name) for name in compared} == {
            name: other.headers.get(name) for name in compared
        }
        assert ("link" in answer.headers) == ("link" in other.headers)


def without_id(answer: httpx2.Response) -> Any:
    """The body; of an error all but the id of the request."""
    body: Any = answer.json() if answer.content else None
    if answer.is_error:
        del body["request_id"]
    return body


@pytest.mark.parametrize("spelling", ["bearer {}", "BEARER  {}", "Bearer {} "])
@pytest.mark.parametrize("path", ["/tasks", "/tasks/workflow"])
async def test_however_a_token_is_written_its_user_is_let_in_and_counted(
    client: httpx2.AsyncClient, user: User, settings: Settings, path: str, spelling: str
) -> None:
    token = token_of(user, settings)
    before = await client.get(path, headers={"Authorization": f"Bearer {token}"})

    answer = await client.get(path, headers={"Authorization": spelling.format(token)})

    assert (before.status_code, answer.status_code) == (200, 200)
    assert left_by(answer) == left_by(before) - 1


def left_by(answer: httpx2.Response) -> int:
    """How many requests the caller has left."""
    found = re.search(r"r=(\d+)", answer.headers["RateLimit"])
    assert found is not None
    return int(found[1])


@pytest.mark.parametrize("path", ["/tasks", "/tasks/{id}"])
async def test_tasks_are_for_whoever_may_read(
    client: httpx2.AsyncClient,
    client_with: ClientWith,
    session: AsyncSession,
    user: User,
    path: str,
) -> None:
    task = await create_task(session, owner=user)
    path = path.format(id=task.id)
    reader = await client_with(await create_token(session, user, scopes=[Scope.TASKS_READ]))
    stranger = await client_with(await create_token(session, user, scopes=[Scope.EVENTS_READ]))

    assert (await reader.get(path)).status_code == 200
    assert problem(await stranger.get(path), 403)["code"] == "insufficient_scope"
    assert problem(await client.get(path), 401)["code"] == "unauthorized"
    assert problem(await client.get(path, headers={"Authorization": "Basic abc"}), 401)["code"] == "unauthorized"
    assert problem(await client.get(path, headers={"Authorization": "Bearer nonsense"}), 401)["code"] == "unauthorized"


async def test_answer_is_counted_under_its_declared_path(app: FastAPI, signed_in: httpx2.AsyncClient) -> None:
    with pytest.MonkeyPatch.context() as patched:
        counted: list[str | None] = []
        patched.setattr(app.state.hive.metrics.http, "answered", lambda **said: counted.append(said["route"]))
        # An id may be written in capitals.
        capitals = str(UUID(int=10)).upper()
        for path in (f"/tasks/{UUID(int=1)}", f"/tasks/{UUID(int=1)}?", "/tasks", f"/tasks/{capitals}"):
            await signed_in.get(path)

    assert counted == ["/api/v1/tasks/{task_id}", "/api/v1/tasks/{task_id}", "/api/v1/tasks", "/api/v1/tasks/{task_id}"]


@pytest.mark.parametrize("path", ["/tasks?nonsense=1", "/tasks?limit=0", "/tasks?cursor=", f"/tasks/{UUID(int=1)}?a=1"])
async def test_what_is_not_plain_is_refused_as_ever(signed_in: httpx2.AsyncClient, path: str) -> None:
    assert problem(await signed_in.get(path), 422)["code"] == "invalid_request"


async def test_a_statement_is_made_once_for_all_who_ask_in_the_same_way(
    client_as: ClientAs, user: User, other_user: User, admin: User
) -> None:
    one_task.cache_clear()
    task_reads._page.cache_clear()

    def made() -> int:
        return one_task.cache_info().currsize + len(task_reads._page.cache)

    for viewer, path, expected in (
        (user, "/tasks?category=roses", 1),
        (other_user, "/tasks?category=ferns&limit=7", 1),
        (user, "/tasks?category=roses&category=ferns", 2),
        (admin, "/tasks?category=roses", 3),
        (user, f"/tasks/{UUID(int=1)}", 4),
        (other_user, f"/tasks/{UUID(int=2)}", 4),
        (admin, f"/tasks/{UUID(int=1)}", 5),
        (user, "/tasks", 6),
        (other_user, "/tasks", 6),
        # So that PostgreSQL keeps its plan; not for each limit that somebody thinks of.
        (user, "/tasks?limit=100", 7),
        (user, "/tasks?limit=7", 8),
        (user, "/tasks?limit=8", 8),
        # Named twice, it's the same.
        (user, "/tasks?category=roses&category=roses", 8),
        (user, f"/tasks?{'status=draft&' * 400}", 9),
        (user, "/tasks?status=available", 9),
    ):
        await (await client_as(viewer)).get(path)
        assert made() == expected, path
