"""Signing in: what is needed, what is refused, and that no answer tells more than it should."""

import base64
import json
from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import httpx2
import jwt
import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.core.security import issue_token
from app.models import Event, Task, TaskStatus, User
from tests.builders.tasks import create_task
from tests.builders.users import PASSWORD, create_user
from tests.conftest import ClientAs, token_of
from tests.utils.test_utils import problem

WRONG = "not the right password"
INJECTIONS = [
    "' OR 1=1 --",
    "ada@example.org'; DROP TABLE users; --",
    '" OR ""="',
    "ada@example.org\x00",
    "%",
    "user%@example.org",
    "\\",
    "ada@exämple.org",
    "ADA@EXAMPLE.ORG\n",
    "🐝" * 100,
    "a" * 1_000,
]


async def login(client: httpx2.AsyncClient, email: str, password: str) -> httpx2.Response:
    return await client.post("/auth/login", json={"email": email, "password": password})


def without_id(answer: httpx2.Response) -> dict[str, object]:
    return {name: value for name, value in answer.json().items() if name != "request_id"}


async def test_without_a_token_the_answer_says_what_is_needed(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/users/me")

    assert problem(answer, 401)["code"] == "unauthorized"
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic YWRhOmFkYQ==", "bearer\tx", "Bearer a b", "x" * 9000]
)
async def test_an_authorization_of_another_form_is_none(client: httpx2.AsyncClient, header: str) -> None:
    answer = await client.get("/users/me", headers={"Authorization": header})

    assert problem(answer, 401)["code"] == "unauthorized"
    assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_a_token_in_the_address_does_not_count_for_rest(
    client: httpx2.AsyncClient, user: User, settings: Settings
) -> None:
    answer = await client.get("/users/me", params={"token": token_of(user, settings)})

    assert answer.status_code in {401, 422}


def with_other_signature(token: str) -> str:
    head, body, signature = token.split(".")
    return f"{head}.{body}.{signature[::-1]}"


def without_signature(token: str) -> str:
    return token.rpartition(".")[0] + "."


def of_no_algorithm(token: str) -> str:
    header = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    return f"{header}.{token.split('.')[1]}."


def of_somebody_else(token: str) -> str:
    head, body, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    forged = base64.urlsafe_b64encode(json.dumps(claims | {"sub": str(uuid4())}).encode()).rstrip(b"=").decode()
    return f"{head}.{forged}.{signature}"


def cut_short(token: str) -> str:
    return token[:-5]


@pytest.mark.parametrize(
    "tamper", [with_other_signature, without_signature, of_no_algorithm, of_somebody_else, cut_short]
)
async def test_a_tampered_token_is_refused(
    client: httpx2.AsyncClient, user: User, settings: Settings, tamper: Callable[[str], str]
) -> None:
    token = token_of(user, settings)
    assert (await client.get("/users/me", headers={"Authorization": f"Bearer {token}"})).status_code == 200

    answer = await client.get("/users/me", headers={"Authorization": f"Bearer {tamper(token)}"})

    assert problem(answer, 401)["code"] == "unauthorized"


async def test_whatever_is_wrong_with_a_token_the_answer_is_the_same(
    client: httpx2.AsyncClient, user: User, settings: Settings
) -> None:
    good = token_of(user, settings)
    claims = jwt.decode(good, options={"verify_signature": False})

    def signed(*, algorithm: str = "HS256", key: str = settings.jwt_key, **changes: object) -> str:
        changed = {name: value for name, value in (claims | changes).items() if value is not None}
        return jwt.encode(changed, None if algorithm == "none" else key, algorithm=algorithm)

    assert (await client.get("/users/me", headers={"Authorization": f"Bearer {signed()}"})).status_code == 200
    wrong = {
        "no algorithm": signed(algorithm="none"),
        "another algorithm": signed(algorithm="HS384"),
        "another key": signed(key="another key that is long enough to sign with it"),
        "another audience": signed(aud="hive:refresh"),
        "no audience": signed(aud=None),
        "no expiry": signed(exp=None),
        "expired": issue_token(user.id, user.id, key=settings.jwt_key, lifetime=timedelta(seconds=-61)),
        "of nobody": signed(sub=str(uuid4())),
        "of no session": signed(sid=str(uuid4())),
        "a refresh token": (await login(client, user.email, PASSWORD)).json()["refresh_token"],
        "an unknown API token": "hive_" + "x" * 43,
        "garbage": "garbage",
    }

    answers = {
        name: await client.get("/users/me", headers={"Authorization": f"Bearer {token}"})
        for name, token in wrong.items()
    }

    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(wrong, 401)
    for answer in answers.values():
        assert without_id(answer) == without_id(answers["garbage"])
        assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_unknown_address_wrong_password_and_ended_account_answer_the_same(
    client: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    ended = await create_user(session, is_active=False)

    wrong_password = await login(client, user.email, WRONG)
    unknown_address = await login(client, "nobody@example.org", PASSWORD)
    ended_account = await login(client, ended.email, PASSWORD)

    assert problem(wrong_password, 401)["code"] == "invalid_credentials"
    assert without_id(wrong_password) == without_id(unknown_address) == without_id(ended_account)
    assert wrong_password.headers["WWW-Authenticate"] == "Bearer"
    assert {*wrong_password.headers} == {*unknown_address.headers} == {*ended_account.headers}


@pytest.mark.parametrize("path", ["/auth/login", "/auth/token"])
async def test_every_sign_in_that_fails_costs_one_verification(
    client: httpx2.AsyncClient, session: AsyncSession, user: User, verifications: list[str], path: str
) -> None:
    """The times are the same because the work is, which can be counted; time itself is noise on a busy machine."""
    ended = await create_user(session, is_active=False)

    for email in (user.email, "nobody@example.org", ended.email, "no address", "n\x00l", "bée@example.org"):
        before = len(verifications)
        body = {"username": email, "password": WRONG, "grant_type": "password"}
        if path == "/auth/token":
            answer = await client.post(path, data=body)
        else:
            answer = await login(client, email, WRONG)
        assert answer.status_code == 401
        assert len(verifications) == before + 1

    # Whom there is no hash of is checked against one that is as costly as those of new accounts.
    assert verifications[1].startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert verifications[0] == user.password_hash


async def test_a_right_password_signs_in(client: httpx2.AsyncClient, user: User, verifications: list[str]) -> None:
    answer = await login(client, user.email, PASSWORD)

    assert answer.status_code == 200
    assert verifications == [user.password_hash]


@pytest.mark.parametrize(
    "password", [PASSWORD.upper(), f"{PASSWORD} ", f" {PASSWORD}", PASSWORD[:-1], f"{PASSWORD}\x00"]
)
async def test_a_password_that_is_nearly_right_is_wrong(client: httpx2.AsyncClient, user: User, password: str) -> None:
    assert problem(await login(client, user.email, password), 401)["code"] == "invalid_credentials"


@pytest.mark.parametrize("text", INJECTIONS)
@pytest.mark.parametrize("field", ["email", "password"])
async def test_hostile_input_is_no_sign_in_and_no_fault(
    client: httpx2.AsyncClient, session: AsyncSession, user: User, text: str, field: str
) -> None:
    credentials = {"email": user.email, "password": PASSWORD} | {field: text}

    answer = await login(client, **credentials)

    assert problem(answer, 401)["code"] == "invalid_credentials"
    assert await session.scalar(select(func.count()).select_from(User)) == 1


@pytest.mark.parametrize("path", ["/auth/login", "/auth/token"])
@pytest.mark.parametrize("body", [b"", b"username=", b"\xff\xfe", b"username=%FF&password=%00", b"&&&=", b"username"])
async def test_bytes_that_are_no_credentials_are_malformed(client: httpx2.AsyncClient, path: str, body: bytes) -> None:
    kind = "application/x-www-form-urlencoded" if path == "/auth/token" else "application/json"

    answer = await client.post(path, content=body, headers={"Content-Type": kind})

    assert answer.status_code in {401, 422}
    problem(answer, answer.status_code)


@pytest.mark.parametrize("field", ["email", "password"])
async def test_lone_surrogates_are_refused(client: httpx2.AsyncClient, user: User, field: str) -> None:
    body = json.dumps({"email": user.email, "password": PASSWORD} | {field: "\ud800"})

    answer = await client.post("/auth/login", content=body, headers={"Content-Type": "application/json"})

    assert answer.status_code in {401, 422}
    problem(answer, answer.status_code)


@pytest.mark.parametrize("body", [{}, {"email": 1, "password": True}, {"email": ["a"], "password": None}, [], "ada", 1])
async def test_credentials_of_another_shape_are_malformed(client: httpx2.AsyncClient, body: object) -> None:
    assert problem(await client.post("/auth/login", json=body), 422)["code"] == "invalid_request"


async def test_nobody_meets_an_address_of_somebody_else(
    client_as: ClientAs, session: AsyncSession, user: User, other_user: User
) -> None:
    """Not in the directory, nor in events, nor in tasks, nor where two accounts meet in a conflict."""
    task = await create_task(session, owner=user, status=TaskStatus.DRAFT)
    owner, reader = await client_as(user), await client_as(other_user)
    await owner.put(f"/tasks/{task.id}/status", json={"status": "available"})
    await reader.post(f"/tasks/{task.id}/claim")
    assert (await owner.post(f"/tasks/{task.id}/claim")).status_code == 409

    texts = [
        (await reader.get(path)).text
        for path in (
            "/users",
            f"/users/{user.id}",
            "/users/online",
            "/tasks",
            f"/tasks/{task.id}",
            f"/tasks/{task.id}/history",
            "/dashboard/summary",
        )
    ]

    assert user.email not in "".join(texts)
    assert all("@" not in json.dumps(event.data) for event in await session.scalars(select(Event)))


async def test_registering_tells_no_more_of_an_address_than_that_it_is_taken(
    client: httpx2.AsyncClient, session: AsyncSession
) -> None:
    taken = await create_user(session, email="ada@example.org", display_name="Ada Lovelace")

    answer = await client.post(
        "/auth/register", json={"email": taken.email, "password": PASSWORD, "display_name": "Somebody"}
    )

    assert problem(answer, 409)["code"] == "email_taken"
    assert "Lovelace" not in answer.text
    assert str(taken.id) not in answer.text
    assert taken.email not in answer.text


@pytest.mark.parametrize(
    "field",
    ["id", "admin", "is_admin", "active", "is_active", "impact_score", "password_hash", "created_at", "updated_at"],
)
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_nobody_sets_of_oneself_what_only_the_system_sets(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, method: str, field: str
) -> None:
    before = user.updated_at

    answer = await signed_in.request(method, "/users/me", json={"role": "Designer", field: "1"})

    assert [error["pointer"] for error in problem(answer, 422)["errors"]] == [f"/{field}"]
    await session.refresh(user)
    assert (user.role, user.is_admin, user.impact_score, user.updated_at) == ("", False, 0, before)


@pytest.mark.parametrize(
    "field",
    ["id", "assignee_id", "version", "completed_at", "created_at", "updated_at", "priority_rank"],
)
async def test_nobody_sets_of_a_task_what_only_the_system_sets(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, other_user: User, field: str
) -> None:
    task = await create_task(session, owner=user)

    for method, path in (("POST", "/tasks"), ("PATCH", f"/tasks/{task.id}"), ("PUT", f"/tasks/{task.id}")):
        answer = await signed_in.request(method, path, json={"title": "Mine", field: str(other_user.id)})
        assert [error["pointer"] for error in problem(answer, 422)["errors"]] == [f"/{field}"]

    [stored] = await session.scalars(select(Task).execution_options(populate_existing=True))
    assert (stored.title, stored.owner_id, stored.version) == ("Water the orchids", user.id, 1)


async def test_nobody_makes_a_task_of_somebody_else(
    signed_in: httpx2.AsyncClient, session: AsyncSession, other_user: User
) -> None:
    answer = await signed_in.post("/tasks", json={"title": "Yours", "owner_id": str(other_user.id)})

    assert [error["pointer"] for error in problem(answer, 422)["errors"]] == ["/owner_id"]
    assert (await session.scalars(select(Task))).all() == []


async def test_the_status_in_an_update_passes_by_no_step(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user)

    answer = await signed_in.patch(f"/tasks/{task.id}", json={"status": "completed"})

    assert problem(answer, 409)["code"] == "invalid_transition"
    await session.refresh(task)
    assert task.status is TaskStatus.AVAILABLE
