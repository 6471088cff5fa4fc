"""Whether strangers may make accounts, by `REGISTRATION` and by what is there."""

from dataclasses import replace
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.api import registering
from app.cli.doctor import _registration
from app.config import ConfigurationError, Environment, Registration, load_settings
from app.models import User
from tests.builders.users import PASSWORD, create_user
from tests.utils.test_utils import problem

NEW_USER = {"email": "new@example.org", "password": PASSWORD}
PRODUCTION = {"environment": Environment.PRODUCTION}
KEY = {"Idempotency-Key": "a-key-of-this-test"}
CLOSED = {"registration": Registration.CLOSED}


def use(app: FastAPI, changed: dict[str, Any]) -> None:
    state = app.state.hive
    app.state.hive = replace(state, settings=state.settings.model_copy(update=changed))


async def accounts(session: AsyncSession) -> int:
    return await session.scalar(select(func.count()).select_from(User)) or 0


@pytest.mark.parametrize(
    ("changed", "has_admin", "status"),
    [
        ({}, True, 201),
        (CLOSED, False, 403),
        (CLOSED | PRODUCTION, False, 403),
        (PRODUCTION, False, 201),
        (PRODUCTION, True, 403),
        (PRODUCTION | {"registration": Registration.OPEN}, True, 201),
    ],
)
async def test_who_may_register(
    app: FastAPI,
    client: httpx2.AsyncClient,
    session: AsyncSession,
    changed: dict[str, Any],
    status: int,
    *,
    has_admin: bool,
) -> None:
    await create_user(session, is_admin=has_admin)
    use(app, changed)

    answer = await client.post("/auth/register", json=NEW_USER)

    assert answer.status_code == status, answer.text
    assert await accounts(session) == (2 if status == 201 else 1)


async def test_an_admin_who_has_left_closes_nothing(
    app: FastAPI, client: httpx2.AsyncClient, session: AsyncSession
) -> None:
    await create_user(session, is_admin=True, is_active=False)
    use(app, PRODUCTION)

    assert (await client.post("/auth/register", json=NEW_USER)).status_code == 201


async def test_a_closed_registration_tells_nothing_of_accounts(
    app: FastAPI, client: httpx2.AsyncClient, user: User
) -> None:
    use(app, CLOSED)

    answers = [
        await client.post("/auth/register", json=NEW_USER | {"email": address})
        for address in (user.email, "new@example.org")
    ]

    known, unknown = (problem(answer, 403) for answer in answers)
    assert known["code"] == unknown["code"] == "registration_closed"
    assert known | {"request_id": None} == unknown | {"request_id": None}


@pytest.mark.parametrize("changed", [CLOSED, PRODUCTION])
async def test_a_closed_registration_costs_and_keeps_nothing(
    app: FastAPI, client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch, admin: User, changed: dict[str, Any]
) -> None:
    hashed: list[str] = []

    async def note(password: str) -> str:
        hashed.append(password)
        return "a hash"

    monkeypatch.setattr(registering, "hash_password", note)
    usual = app.state.hive
    use(app, changed)
    refused = await client.post("/auth/register", json=NEW_USER, headers=KEY)
    assert hashed == []
    app.state.hive = usual
    opened = await client.post("/auth/register", json=NEW_USER, headers=KEY)

    assert problem(refused, 403)["code"] == "registration_closed"
    assert (opened.status_code, opened.headers.get("Idempotency-Replayed")) == (201, None)


async def test_who_registered_before_it_closed_gets_the_same_answer_again(
    app: FastAPI, client: httpx2.AsyncClient, admin: User
) -> None:
    first = await client.post("/auth/register", json=NEW_USER, headers=KEY)
    use(app, CLOSED)

    again = await client.post("/auth/register", json=NEW_USER, headers=KEY)

    assert (again.status_code, again.headers["Idempotency-Replayed"]) == (201, "true")
    assert again.json() == first.json()


@pytest.mark.parametrize(("given", "told"), [("invited", "there are no invitations yet"), ("ajar", "'open'")])
def test_what_can_not_be_set_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch, given: str, told: str) -> None:
    monkeypatch.setenv("REGISTRATION", given)

    with pytest.raises(ConfigurationError, match=told) as refused:
        load_settings()

    assert "REGISTRATION: " in str(refused.value)


@pytest.mark.parametrize(
    ("changed", "told"),
    [({}, "open"), (CLOSED, "closed"), (PRODUCTION, "open until there is an admin, then closed")],
)
def test_the_doctor_tells_who_may_register(app: FastAPI, changed: dict[str, Any], told: str) -> None:
    assert _registration(app.state.settings.model_copy(update=changed)) == told
