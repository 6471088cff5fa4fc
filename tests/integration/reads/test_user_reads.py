"""The directory as PostgreSQL writes it is what the response model says of the same rows."""

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import httpx2
import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import Database
from app.models import User
from app.reads.user_reads import UserReads
from app.schemas.fields import PageQuery
from app.schemas.user import UserProfile
from app.services.assignment_service import UserNotFound
from app.services.pages import CursorCodec, InvalidCursor
from tests.builders.users import create_user
from tests.utils.test_utils import problem

AWKWARD_TEXT = '"quoted" \\ / <b> \t\u2028 \u202e 𝄞 e\u0301 日本 \x7f \\u0000 NaN {} ,'
AWKWARD: Mapping[str, dict[str, Any]] = {
    "as plain as can be": {},
    "texts": {"display_name": AWKWARD_TEXT, "role": AWKWARD_TEXT, "skills": [AWKWARD_TEXT, "", "null", "a,b"]},
    "numbers": {"impact_score": 2**53, "skills": []},
    "ended": {"is_active": False},
}


def as_written(user: User, *, online: bool) -> Any:
    profile = UserProfile(
        id=user.id,
        display_name=user.display_name,
        role=user.role,
        skills=user.skills,
        impact_score=user.impact_score,
        online=online,
        type="agent" if user.is_agent else "user",
        owner_id=user.owner_id,
    )
    return json.loads(profile.model_dump_json())


@pytest.fixture
def reads(database: Database) -> UserReads:
    return UserReads(database, CursorCodec("key"))


@pytest.mark.parametrize("overrides", AWKWARD.values(), ids=AWKWARD)
@pytest.mark.parametrize("online", [True, False])
async def test_somebody_is_read_as_the_model_writes_them(
    reads: UserReads, session: AsyncSession, overrides: dict[str, Any], *, online: bool
) -> None:
    found = await create_user(session, **overrides)

    one = json.loads(await reads.get(found.id, online={found.id} if online else set()))

    assert one == as_written(found, online=online)
    assert list(one) == list(UserProfile.model_fields)


async def test_nobody_is_told_what_only_the_account_itself_may_see(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    for path in (f"/users/{user.id}", "/users"):
        answer = await signed_in.get(path)

        assert answer.headers["content-type"] == "application/json"
        assert user.email not in answer.text


async def test_who_is_not_there_is_not_found(signed_in: httpx2.AsyncClient, reads: UserReads) -> None:
    with pytest.raises(UserNotFound):
        await reads.get(UUID(int=1), online=())
    assert problem(await signed_in.get(f"/users/{UUID(int=1)}"), 404)["code"] == "user_not_found"


async def test_pages_go_through_all_by_name_and_leave_out_who_has_ended(
    reads: UserReads, session: AsyncSession
) -> None:
    people = [await create_user(session, display_name=name) for name in ("Cy", "Ada", "Bo", "Ada", "Ada")]
    await create_user(session, display_name="Abe", is_active=False)
    agent = await create_user(
        session, display_name="Zed", owner_id=people[0].id, email=None, password_hash=None, mail_notifications=False
    )

    seen: list[Any] = []
    cursor = None
    for _ in range(4):
        page = await reads.page(PageQuery(limit=2, cursor=cursor), online=(people[1].id,))
        seen.append(json.loads(page.json))
        cursor = page.next_cursor

    in_order = sorted([*people, agent], key=lambda person: (person.display_name, person.id))
    assert [len(page) for page in seen[:3]] == [2, 2, 2]
    assert [one for page in seen[:3] for one in page] == [
        as_written(person, online=person is people[1]) for person in in_order
    ]
    assert seen[2][-1]["type"] == "agent"


async def test_a_cursor_of_another_list_is_refused(reads: UserReads, signed_in: httpx2.AsyncClient) -> None:
    with pytest.raises(InvalidCursor):
        await reads.page(PageQuery(cursor="nonsense"), online=())
    assert problem(await signed_in.get("/users?cursor=nonsense"), 422)["errors"][0]["code"] == "invalid_cursor"


async def test_who_is_online_is_listed_by_name(reads: UserReads, session: AsyncSession) -> None:
    people = [await create_user(session, display_name=name) for name in ("Cy", "Ada", "Bo")]
    gone = await create_user(session, is_active=False)

    found = json.loads(await reads.online([people[0].id, people[1].id, gone.id, UUID(int=1)]))

    assert found == [as_written(people[1], online=True), as_written(people[0], online=True)]
    assert json.loads(await reads.online([])) == []


async def test_of_those_who_are_online_as_many_are_read_as_asked_for(reads: UserReads, session: AsyncSession) -> None:
    people = [await create_user(session, display_name=name) for name in ("Cyn", "Ada", "Bea")]
    online = {user.id for user in people}

    some, everybody = [json.loads(await reads.online(online, limit=limit)) for limit in (2, None)]

    assert [person["display_name"] for person in some] == ["Ada", "Bea"]
    assert [person["display_name"] for person in everybody] == ["Ada", "Bea", "Cyn"]


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "limit=", "skip=1"])
async def test_a_limit_that_is_none_is_refused(signed_in: httpx2.AsyncClient, query: str) -> None:
    answer = await signed_in.get(f"/users/online?{query}")

    assert [fault["in"] for fault in problem(answer, 422)["errors"]] == ["query"]
    assert (await signed_in.get("/users/online?limit=5")).json() == []
