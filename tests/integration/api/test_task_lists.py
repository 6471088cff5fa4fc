"""The list of tasks: filters, search, order and pages."""

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain, product
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import httpx2
import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app.models import Task, TaskPriority, TaskStatus, User
from app.schemas.task import TaskSort
from app.services.pages import CursorCodec, Position, scope_of
from tests.builders.tasks import create_task
from tests.builders.users import create_user
from tests.utils.test_utils import problem

JANUARY, FEBRUARY, MARCH = (datetime(2030, month, 1, tzinfo=UTC) for month in (1, 2, 3))


def titles(answer: httpx2.Response) -> str:
    """The titles of a list, which are single letters in these tests, in one word."""
    assert answer.status_code == 200, answer.text
    return "".join(task["title"] for task in answer.json())


@pytest.fixture
async def four_tasks(session: AsyncSession, user: User, other_user: User) -> None:
    """A to D, which `user` sees, and E, a draft of somebody else."""
    garden: dict[str, Any] = {"category": "garden"}
    kitchen: dict[str, Any] = {"category": "kitchen"}
    draft, available, started, done = TaskStatus
    urgent, high, medium, low = TaskPriority
    mine: dict[str, Any] = {"owner": user, "assignee": other_user}
    theirs: dict[str, Any] = {"owner": other_user, "assignee": user}
    await create_task(session, title="A", **mine, status=draft, **garden, priority=urgent, due_at=JANUARY)
    await create_task(session, title="B", **theirs, status=available, **garden, priority=high, due_at=FEBRUARY)
    await create_task(session, title="C", **mine, status=started, **kitchen, priority=medium)
    await create_task(session, title="D", **theirs, status=done, **kitchen, priority=low, due_at=MARCH)
    await create_task(session, title="E", **theirs, status=draft, **garden, priority=urgent, due_at=JANUARY)


@pytest.mark.usefixtures("four_tasks")
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "ABCD"),
        ("status=draft", "A"),
        ("status=available&status=completed", "BD"),
        ("priority=urgent", "A"),
        ("priority=medium&priority=low", "CD"),
        ("category=garden", "AB"),
        ("category=garden&category=kitchen", "ABCD"),
        ("category=GARDEN", ""),
        ("category=gard%25", ""),
        ("owner=me", "AC"),
        ("owner={other}", "BD"),
        ("owner=none", ""),
        ("owner={nobody}", ""),
        ("assignee=me", "D"),
        ("assignee={other}", "C"),
        ("assignee=none", "AB"),
        ("due_before=2030-02-01T00:00:00Z", "A"),
        ("due_after=2030-02-01T00:00:00Z", "D"),
        ("due_after=2030-01-31T23:30:00-01:00", "D"),
        ("due_after=2030-01-01T00:00:00Z&due_before=2030-03-01T00:00:00Z", "B"),
        ("owner=me&assignee=none", "A"),
        ("status=in_progress&status=draft&category=kitchen", "C"),
        ("status=draft&owner={other}", ""),
        ("priority=urgent&due_before=2031-01-01T00:00:00Z&category=garden&owner=me&assignee=none&q=a", "A"),
    ],
)
async def test_filters_pick_what_passes_all_of_them(
    signed_in: httpx2.AsyncClient, other_user: User, query: str, expected: str
) -> None:
    filled = query.format(other=other_user.id, nobody=uuid4())

    assert sorted(titles(await signed_in.get(f"/tasks?{filled}"))) == list(expected)


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("status=finished", "status"),
        ("status=", "status"),
        ("priority=1", "priority"),
        ("category=", "category"),
        ("category=%00", "category"),
        ("owner=nobody", "owner"),
        ("assignee=", "assignee"),
        ("due_before=2030-01-01T00:00:00", "due_before"),
        ("due_after=yesterday", "due_after"),
        ("due_after=1893456000", "due_after"),
        ("sort=title", "sort"),
        ("sort=--created_at", "sort"),
        ("sort=created_at,due_at", "sort"),
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=-1", "limit"),
        ("limit=1e3", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("q=a%00b", "q"),
        (f"q={'a' * 201}", "q"),
        ("cursor=", "cursor"),
        ("page=2", "page"),
    ],
)
async def test_a_parameter_that_makes_no_sense_is_named(
    signed_in: httpx2.AsyncClient, query: str, parameter: str
) -> None:
    errors = problem(await signed_in.get(f"/tasks?{query}"), 422)["errors"]

    assert {error["pointer"].split("/")[1] for error in errors} == {parameter}
    assert {error["in"] for error in errors} == {"query"}


@pytest.mark.parametrize(
    ("words", "is_found"),
    [
        ("orchids", True),
        ("WATER", True),
        ("thursday", True),
        ("orchids water", True),
        ("orchids thursday", True),
        ("  orchids\u00a0 ", True),
        ("bienenstöcke", True),
        ("BIENENSTÖCKE", True),
        ("蜂蜜", True),
        ("orchids roses", False),
        ("orch", True),
        ("rchids", False),
        ("orchids & water", True),
        ("orchids & roses", False),
        ("orchids | roses", False),
        ("!roses", False),
        ("!orchids", True),
        ("orch:*", True),
        ("orchids <-> water", True),
        ("(orchids", True),
        ("orchids'", True),
        ('"water orchids"', True),
        ("orchids\\", True),
        ("orch%", True),
        ("orchid_", True),
        ("%", False),
        ("'", False),
        ("\\", False),
        ("&|!():*<->", False),
        ("🐝", False),
    ],
)
async def test_search_finds_all_words_and_knows_no_operators(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, words: str, is_found: bool
) -> None:
    await create_task(session, owner=user, title="X", description="Water the orchids, Thursday: Bienenstöcke (蜂蜜).")
    await create_task(session, owner=user, title="Y", description="Nothing of the kind")

    assert titles(await signed_in.get("/tasks", params={"q": words})) == ("X" if is_found else "")


async def test_search_looks_into_title_and_description_together(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    await create_task(session, owner=user, title="Orchids", description="water them")

    assert titles(await signed_in.get("/tasks?q=water+orchids")) == "Orchids"


async def test_search_finds_no_draft_of_somebody_else(
    signed_in: httpx2.AsyncClient, session: AsyncSession, other_user: User
) -> None:
    await create_task(session, owner=other_user, status=TaskStatus.DRAFT, title="Orchids")

    assert titles(await signed_in.get("/tasks?q=orchids")) == ""


KEYS: dict[str, Callable[[Task], Any]] = {
    "created_at": lambda task: task.created_at,
    "updated_at": lambda task: task.updated_at,
    "due_at": lambda task: task.due_at or datetime.max.replace(tzinfo=UTC),
    "priority": lambda task: list(TaskPriority).index(task.priority),
}


def in_order(tasks: Sequence[Task], sort: str) -> list[str]:
    """The oracle: the ids as the list must have them, by Python's own sorting."""
    key = KEYS[sort.removeprefix("-")]
    ordered = sorted(tasks, key=lambda task: (key(task), task.id), reverse=sort.startswith("-"))
    return [str(task.id) for task in ordered]


async def pages(client: httpx2.AsyncClient, url: str) -> AsyncIterator[list[str]]:
    """The ids on each page, following the links to the end."""
    while url:
        answer = await client.get(url)
        assert answer.status_code == 200, answer.text
        yield [task["id"] for task in answer.json()]
        url = answer.links.get("next", {}).get("url", "").removeprefix("/api/v1")


@pytest.fixture
async def tied_tasks(session: AsyncSession, user: User) -> list[Task]:
    """Tasks with equal keys, missing keys, and ids that are in the order of none."""
    moments = (JANUARY, FEBRUARY)
    kinds = [*product(moments, (None, JANUARY, MARCH), (TaskPriority.URGENT, TaskPriority.LOW))][:11]
    made = [
        await create_task(session, owner=user, id=uuid4(), created_at=moment, updated_at=moment, due_at=due, priority=p)
        for moment, due, p in kinds
    ]
    await create_task(session, owner=await create_user(session), status=TaskStatus.DRAFT)
    return made


@pytest.mark.parametrize("limit", [1, 2, 3, 11, 12])
@pytest.mark.parametrize("sort", list(TaskSort))
async def test_pages_put_together_are_the_list_in_its_order(
    signed_in: httpx2.AsyncClient, tied_tasks: list[Task], sort: str, limit: int
) -> None:
    found = [page async for page in pages(signed_in, f"/tasks?sort={sort}&limit={limit}")]

    assert list(chain.from_iterable(found)) == in_order(tied_tasks, sort)
    assert {len(page) for page in found[:-1]} <= {limit}
    assert len(found) == -(-len(tied_tasks) // limit)


async def test_the_newest_come_first_unless_told_otherwise(
    signed_in: httpx2.AsyncClient, tied_tasks: list[Task]
) -> None:
    answer = await signed_in.get("/tasks")

    assert [task["id"] for task in answer.json()] == in_order(tied_tasks, "-created_at")


@pytest.mark.parametrize("sort", list(TaskSort))
async def test_what_changes_between_pages_repeats_nothing_and_hides_nothing(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, tied_tasks: list[Task], sort: str
) -> None:
    before = in_order(tied_tasks, sort)
    found: list[str] = []
    gone: set[str] = set()
    moment = JANUARY - timedelta(days=1)

    async for page in pages(signed_in, f"/tasks?sort={sort}&limit=2"):
        found += page
        # Whatever the order, one of these is before the place that was reached, and one after it.
        for created, due, priority in ((moment, None, TaskPriority.URGENT), (MARCH, moment, TaskPriority.LOW)):
            await create_task(
                session, owner=user, created_at=created, updated_at=created, due_at=due, priority=priority
            )
        if not gone:
            # The last row of a page may go, and the next page still begins after it.
            gone = {page[-1]}
            await session.delete(await session.get_one(Task, UUID(page[-1])))
            await session.commit()
        if len(found) > 60:
            break

    assert len(found) == len(set(found))
    assert [task_id for task_id in found if task_id in before] == before


async def next_cursor(client: httpx2.AsyncClient, url: str) -> str:
    link = (await client.get(url)).links["next"]["url"]
    [cursor] = parse_qs(urlsplit(link).query)["cursor"]
    return cursor


@pytest.mark.usefixtures("tied_tasks")
@pytest.mark.parametrize(
    "query", ["", "sort=due_at&limit=2", "sort=-created_at&status=available", "owner=me", "q=water"]
)
async def test_a_cursor_serves_no_other_list(signed_in: httpx2.AsyncClient, query: str) -> None:
    cursor = await next_cursor(signed_in, "/tasks?sort=created_at&limit=2")

    errors = problem(await signed_in.get(f"/tasks?{query}&cursor={cursor}"), 422)["errors"]

    assert [(error["pointer"], error["in"], error["code"]) for error in errors] == [
        ("/cursor", "query", "invalid_cursor")
    ]


@pytest.mark.usefixtures("tied_tasks")
async def test_a_cursor_serves_nobody_else(signed_in: httpx2.AsyncClient, signed_in_other: httpx2.AsyncClient) -> None:
    cursor = await next_cursor(signed_in, "/tasks?limit=2")

    answer = await signed_in_other.get(f"/tasks?limit=2&cursor={cursor}")

    assert problem(answer, 422)["errors"][0]["code"] == "invalid_cursor"


@pytest.mark.usefixtures("tied_tasks")
async def test_a_cursor_of_the_directory_serves_no_list_of_tasks(signed_in: httpx2.AsyncClient) -> None:
    cursor = await next_cursor(signed_in, "/users?limit=1")

    assert problem(await signed_in.get(f"/tasks?cursor={cursor}"), 422)["errors"][0]["code"] == "invalid_cursor"


@pytest.mark.usefixtures("tied_tasks")
async def test_a_tampered_cursor_is_refused(signed_in: httpx2.AsyncClient) -> None:
    cursor = await next_cursor(signed_in, "/tasks?limit=2")

    for place in range(0, len(cursor) - 1, 7):
        other = "A" if cursor[place] != "A" else "B"
        tampered = cursor[:place] + other + cursor[place + 1 :]
        answer = await signed_in.get(f"/tasks?limit=2&cursor={tampered}")
        assert problem(answer, 422)["errors"][0]["code"] == "invalid_cursor"


@pytest.mark.parametrize("cursor", ["x", "..", "a.b", "W10.W10", "%00", "%F0%9F%90%9D", "null", "a" * 1_000])
async def test_what_is_no_cursor_is_refused(signed_in: httpx2.AsyncClient, cursor: str) -> None:
    answer = await signed_in.get(f"/tasks?cursor={cursor}")

    assert problem(answer, 422)["errors"][0]["code"] == "invalid_cursor"


async def test_a_cursor_that_another_key_signed_is_refused(signed_in: httpx2.AsyncClient, user: User) -> None:
    scope = scope_of("users")
    forged = CursorCodec("a key that is not this server's").encode(Position("Ada", user.id), scope=scope)

    answer = await signed_in.get(f"/users?cursor={forged}")

    assert problem(answer, 422)["errors"][0]["code"] == "invalid_cursor"


@pytest.mark.usefixtures("tied_tasks")
async def test_a_cursor_goes_on_with_another_limit(signed_in: httpx2.AsyncClient, tied_tasks: list[Task]) -> None:
    cursor = await next_cursor(signed_in, "/tasks?limit=2&sort=created_at")

    answer = await signed_in.get(f"/tasks?limit=100&sort=created_at&cursor={cursor}")

    assert [task["id"] for task in answer.json()] == in_order(tied_tasks, "created_at")[2:]


@pytest.mark.usefixtures("tied_tasks")
async def test_the_link_is_relative_and_keeps_the_query(signed_in: httpx2.AsyncClient) -> None:
    wanted = "status=available&status=draft&category=general&q=orchids&sort=-priority&limit=3"

    answer = await signed_in.get(f"/tasks?{wanted}&due_before=2030-06-01T00:00:00%2B02:00")

    link = answer.links["next"]
    assert answer.headers["Link"].endswith('>; rel="next"')
    parts = urlsplit(link["url"])
    assert (parts.scheme, parts.netloc, parts.path) == ("", "", "/api/v1/tasks")
    query = parse_qs(parts.query)
    assert query.pop("cursor")
    assert query == {
        "status": ["available", "draft"],
        "category": ["general"],
        "q": ["orchids"],
        "sort": ["-priority"],
        "limit": ["3"],
        "due_before": ["2030-06-01T00:00:00+02:00"],
    }
    assert (await signed_in.get(link["url"].removeprefix("/api/v1"))).status_code == 200


async def test_a_page_has_fifty_unless_told_otherwise_and_two_hundred_at_most(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    session.add_all(Task(title=str(n), owner_id=user.id) for n in range(201))
    await session.commit()

    usual, largest = await signed_in.get("/tasks"), await signed_in.get("/tasks?limit=200")

    assert (len(usual.json()), len(largest.json())) == (50, 200)
    assert "next" in largest.links
    assert "Link" not in (await signed_in.get("/tasks?limit=200&status=completed")).headers
