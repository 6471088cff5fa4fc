"""What requests ask of the database: how many statements, and whether lists find an index."""

import math
import re
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from app.db.pool import Connections
from app.events.lag import publication_lag
from app.models import TaskStatus, User
from tests.builders.tasks import create_task
from tests.builders.tokens import create_token
from tests.builders.users import PASSWORD, create_user
from tests.conftest import ClientWith
from tests.utils.driver_connections import ConnectionOfTest
from tests.utils.serving import Serving

Statement = tuple[str, Any]
SAVEPOINTS = ("SAVEPOINT", "RELEASE", "ROLLBACK TO")


@pytest.fixture
def statements(engine: AsyncEngine, driver_connections: Connections) -> Iterator[list[Statement]]:
    """What is sent to the database, without the savepoints that stand for transactions in these tests."""
    sent: list[Statement] = []

    def note(statement: str, parameters: Any) -> None:
        if not statement.startswith(SAVEPOINTS):
            sent.append((statement, parameters))

    def note_sqlalchemys(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        note(statement, parameters)

    assert isinstance(driver_connections, ConnectionOfTest)
    driver_connections.note = lambda sql, arguments: note(sql, tuple(arguments))
    event.listen(engine.sync_engine, "before_cursor_execute", note_sqlalchemys)
    yield sent
    event.remove(engine.sync_engine, "before_cursor_execute", note_sqlalchemys)


NONE: dict[str, str] = {}
# Of whoever is signed in, and remembered. Changes that are closed to API tokens look them up nevertheless.
COUNTS = [
    ("GET", "/health", NONE, 0),
    ("GET", "/users/me", NONE, 1),
    ("PATCH", "/users/me", {"role": "Gardener"}, 3),
    ("GET", "/users", NONE, 1),
    ("GET", "/users/online", NONE, 1),
    ("GET", "/users/{user}", NONE, 1),
    ("GET", "/tasks", NONE, 1),
    ("GET", "/events", NONE, 1),
    ("GET", "/tasks/workflow", NONE, 0),
    ("GET", "/tasks/{task}", NONE, 1),
    ("GET", "/tasks/{task}/history", NONE, 3),
    ("GET", "/events/types", NONE, 0),
    ("GET", "/dashboard/summary", NONE, 1),
    # All that a change writes goes out as one statement.
    ("POST", "/tasks", {"title": "Roses"}, 1),
    ("PATCH", "/tasks/{task}", {"title": "Roses"}, 2),
    ("PATCH", "/tasks/{task}", {"title": "Water the orchids"}, 1),
    # The task and what waits for it locked, the task, its last version, what waits for it, the deletion.
    ("DELETE", "/tasks/{task}", NONE, 5),
    ("GET", "/notifications", NONE, 1),
    ("POST", "/notifications/read", NONE, 2),
    # The new holder, the task, what it waits for, the end of who held it, and the change.
    ("POST", "/tasks/{task}/assign", {"user_id": "{user}"}, 5),
    # Who claims it, the task, and what follows from it.
    ("POST", "/tasks/{task}/claim", NONE, 3),
    # The task seen and locked, and the change.
    ("PUT", "/tasks/{task}/status", {"status": "draft"}, 3),
    ("POST", "/auth/login", {"email": "ada@example.org", "password": PASSWORD}, 4),
    # The account, the number of the day, and the job that mails the link for its address.
    ("POST", "/auth/register", {"email": "new@example.org", "password": PASSWORD, "display_name": "New"}, 3),
]


async def be_remembered(client: httpx2.AsyncClient, app: FastAPI) -> None:
    """As a process does that sees what has ended. Here nothing ends."""
    app.state.hive.sign_ins.memory.vouch(until=math.inf)
    assert (await client.get("/tasks/workflow")).is_success


@pytest.mark.parametrize(("method", "path", "body", "expected"), COUNTS)
async def test_statements_of_each_route(
    app: FastAPI,
    signed_in: httpx2.AsyncClient,
    session: AsyncSession,
    user: User,
    other_user: User,
    statements: list[Statement],
    method: str,
    path: str,
    body: dict[str, str],
    expected: int,
) -> None:
    user.email = "ada@example.org"
    task = await create_task(session, owner=user)
    body = {name: value.format(user=other_user.id) for name, value in body.items()}
    await be_remembered(signed_in, app)
    # And how many tasks somebody owns, which is counted once in a while.
    await app.state.hive.open_tasks.require_room(user.id)
    statements.clear()

    answer = await signed_in.request(method, path.format(task=task.id, user=other_user.id), json=body or None)

    assert answer.is_success, answer.text
    assert len(statements) == expected, "\n".join(statement for statement, _ in statements)


async def test_a_program_costs_no_more_than_a_person(
    app: FastAPI, client_with: ClientWith, session: AsyncSession, user: User, statements: list[Statement]
) -> None:
    program = await client_with(await create_token(session, user))
    task = await create_task(session, owner=user)
    await be_remembered(program, app)
    statements.clear()

    await program.get(f"/tasks/{task.id}")

    assert len(statements) == 1, "\n".join(statement for statement, _ in statements)


@pytest.mark.parametrize("path", ["/tasks", "/users", "/users/online", "/tasks/{task}/history", "/dashboard/summary"])
async def test_longer_lists_need_no_more_statements(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, statements: list[Statement], path: str
) -> None:
    task = await create_task(session, owner=user)
    path = path.format(task=task.id)

    async def count() -> int:
        statements.clear()
        assert (await signed_in.get(path)).status_code == 200
        return len(statements)

    with_one = await count()
    for number in range(10):
        other = await create_user(session)
        await create_task(session, owner=other, assignee=user, status=TaskStatus.IN_PROGRESS)
        await signed_in.patch(f"/tasks/{task.id}", json={"title": f"Roses {number}"})

    assert await count() == with_one


@pytest.fixture
async def many_tasks(session: AsyncSession, user: User, other_user: User) -> None:
    """Some thousands, of which only few are anybody's, in a rare category, or have a rare word; a tenth wait."""
    await session.execute(
        text(
            "INSERT INTO tasks"
            " (id, title, description, words, status, category, priority, owner_id, due_at, created_at)"
            " SELECT gen_random_uuid(), 'Task ' || n, repeat('Some words. ', 100),"
            " array_to_tsvector(ARRAY['task', CASE WHEN n % 500 = 0 THEN 'rhododendron' ELSE 'fern' END]),"
            " CASE WHEN n % 500 = 0 THEN 'draft' ELSE 'available' END,"
            " CASE WHEN n % 500 = 1 THEN 'rare' ELSE 'general' END,"
            " (ARRAY['urgent', 'high', 'medium', 'low'])[n % 4 + 1],"
            " CASE WHEN n % 500 = 2 THEN CAST(:one AS uuid) ELSE CAST(:other AS uuid) END,"
            " now() + n * interval '1 minute', now() - n * interval '1 second'"
            " FROM generate_series(1, 5000) n"
        ),
        {"one": user.id, "other": other_user.id},
    )
    await session.execute(
        text(
            "INSERT INTO task_blockers (task_id, blocker_id, created_by) SELECT id, before, owner_id FROM"
            " (SELECT id, owner_id, title, lag(id) OVER (ORDER BY id) AS before FROM tasks) AS each"
            " WHERE title LIKE '%0' AND before IS NOT NULL"
        )
    )
    await session.commit()
    # What other tests have left in the list of entries that wait would make the index cost more than the table.
    await session.execute(text("SELECT gin_clean_pending_list('ix_tasks_words')"))
    await session.execute(text("ANALYZE tasks, task_blockers"))


async def plan_of(session: AsyncSession, statements: list[Statement]) -> str:
    """How PostgreSQL goes about the last statement."""
    statement, parameters = statements[-1]
    connection = await session.connection()
    return "\n".join((await connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)).scalars())


@pytest.mark.usefixtures("many_tasks")
@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("", "ix_tasks_created_at_id"),
        ("sort=created_at", "ix_tasks_created_at_id"),
        ("sort=-created_at&status=available", "ix_tasks_created_at_id"),
        ("sort=updated_at", "ix_tasks_updated_at_id"),
        ("sort=-updated_at", "ix_tasks_updated_at_id"),
        ("sort=due_at", "ix_tasks_due_at_id"),
        ("sort=-due_at", "ix_tasks_due_at_id"),
        ("sort=priority", "ix_tasks_priority_rank_id"),
        ("sort=-priority", "ix_tasks_priority_rank_id"),
        ("owner=me", "ix_tasks_owner_id_created_at_id"),
        ("assignee=me", "ix_tasks_assignee_id_created_at_id"),
        ("category=rare", "ix_tasks_category_created_at_id"),
        ("status=draft", "ix_tasks_status_created_at_id"),
        ("ready=true", "ix_tasks_created_at_id"),
        ("ready=true&sort=priority", "ix_tasks_priority_rank_id"),
    ],
)
async def test_lists_of_tasks_find_their_index(
    signed_in: httpx2.AsyncClient, session: AsyncSession, statements: list[Statement], query: str, index: str
) -> None:
    answer = await signed_in.get(f"/tasks?{query}")
    assert answer.status_code == 200

    plan = await plan_of(session, statements)

    assert index in plan, plan
    assert "Seq Scan on tasks" not in plan


@pytest.mark.usefixtures("many_tasks")
@pytest.mark.parametrize("query", ["q=rhododendron", "q=rhodo&sort=priority", "q=rhodo+t"])
async def test_rare_words_are_found_in_their_index(
    signed_in: httpx2.AsyncClient,
    session: AsyncSession,
    statements: list[Statement],
    monkeypatch: pytest.MonkeyPatch,
    query: str,
) -> None:
    # Without the look at the first tasks, which are all that this database has.
    monkeypatch.setattr("app.reads.task_reads.FIRST", 0)
    assert (await signed_in.get(f"/tasks?{query}")).status_code == 200

    sent = list(statements)
    looked_up, listed = await plan_of(session, sent[:-1]), await plan_of(session, sent)

    assert "ix_tasks_words" in looked_up, looked_up
    # By one of the indexes that have the id, or by the words again.
    assert re.search(r"Index Cond: \(+(id = ANY|words @@)", listed), listed
    assert not re.search("ix_tasks_(created_at|priority_rank)_id", listed), listed
    assert "Seq Scan on tasks" not in looked_up + listed


@pytest.mark.usefixtures("many_tasks")
async def test_the_second_page_begins_in_the_index(
    signed_in: httpx2.AsyncClient, session: AsyncSession, statements: list[Statement]
) -> None:
    first = await signed_in.get("/tasks")
    await signed_in.get(first.links["next"]["url"].removeprefix("/api/v1"))

    plan = await plan_of(session, statements)

    assert "Index Cond: (ROW(created_at, id) < ROW(" in plan, plan
    assert "Sort" not in plan


async def test_the_directory_finds_its_index(
    signed_in: httpx2.AsyncClient, session: AsyncSession, statements: list[Statement]
) -> None:
    await session.execute(
        text(
            "INSERT INTO users (id, email, email_key, display_name, password_hash) SELECT gen_random_uuid(), address,"
            " address, 'Person ' || n, '' FROM generate_series(1, 3000) n, concat('person', n, '@example.org') address"
        )
    )
    await session.commit()
    await session.execute(text("ANALYZE users"))
    await signed_in.get("/users")

    plan = await plan_of(session, statements)

    assert "ix_users_directory" in plan, plan
    assert "Sort" not in plan


async def test_pages_of_a_long_history_find_their_index(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, statements: list[Statement]
) -> None:
    task = await create_task(session, owner=user)
    await session.execute(
        text(
            "INSERT INTO events (id, type, actor_id, task_id, task_version, data)"
            " SELECT gen_random_uuid(), 'task.ready', :user, CASE WHEN n % 2 = 0 THEN CAST(:task AS uuid)"
            " ELSE gen_random_uuid() END, n, '{}' FROM generate_series(1, 5000) n"
        ),
        {"user": user.id, "task": task.id},
    )
    await session.commit()
    await session.execute(text("ANALYZE events"))
    first = await signed_in.get(f"/tasks/{task.id}/history")
    plan_of_first = await plan_of(session, statements)
    second = await signed_in.get(first.links["next"]["url"].removeprefix("/api/v1"))
    plan_of_second = await plan_of(session, statements)

    assert [event["task"]["version"] for event in first.json() + second.json()] == list(range(5000, 4800, -2))
    for plan in (plan_of_first, plan_of_second):
        assert "ix_events_task_id_position" in plan, plan
        assert "Seq Scan on events" not in plan


@pytest.fixture
async def long_log(session: AsyncSession) -> None:
    """Some thousands of published events, of a history that has no number in common with that of the test process."""
    await session.execute(text("UPDATE event_log SET last_seq = 9000000, published_seq = 9000000"))
    await session.execute(
        text(
            "INSERT INTO events (id, seq, type, actor_id, data) SELECT gen_random_uuid(), 8990000 + n, 'chat.message',"
            " gen_random_uuid(), '{}' FROM generate_series(1, 5000) n"
        )
    )
    await session.commit()
    await session.execute(text("ANALYZE events"))


@pytest.mark.usefixtures("long_log")
async def test_how_far_publication_is_behind_is_found_without_reading_the_log(
    serving: Serving, session: AsyncSession, statements: list[Statement]
) -> None:
    assert await serving.do(publication_lag) == 0

    plan = await plan_of(session, statements)

    assert "Seq Scan on events" not in plan, plan
