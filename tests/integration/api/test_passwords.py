"""Passwords that are refused: too short, among the most frequent, one's own name or address."""

from typing import Any

import httpx2
import pytest
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy.ext.asyncio import AsyncSession

from app.cli.accounts import create_account
from app.core.passwords import MIN_PASSWORD_LENGTH, common_passwords
from app.models import User
from tests.builders.users import PASSWORD, create_user
from tests.utils.test_utils import problem

ADA = {"email": "ada.lovelace@example.org", "display_name": "Countess Lovelace"}
REFUSED = {
    "nine char": "string_too_short",
    "qwertyuiop": "common_password",
    "Password123": "common_password",
    "1234567890": "common_password",
    "ADA.lovelace": "password_names_account",
    "ada lovelace": "password_names_account",
    "ada.lovelace@example.org": "password_names_account",
    "countess-lovelace": "password_names_account",
}
OLD = {"email": ADA["email"], "display_name": "Somebody"}


def code_of(answer: httpx2.Response) -> str:
    [fault] = problem(answer, 422)["errors"]
    assert fault["pointer"] == "/password"
    return str(fault["code"])


def test_the_list_has_the_most_frequent_ones_as_they_are_compared() -> None:
    assert len(common_passwords()) > 2_000
    assert all(len(each) >= MIN_PASSWORD_LENGTH and each == each.casefold() for each in common_passwords())


@pytest.mark.parametrize(("password", "code"), REFUSED.items())
async def test_nobody_registers_with_it(client: httpx2.AsyncClient, password: str, code: str) -> None:
    answer = await client.post("/auth/register", json=ADA | {"password": password})

    assert code_of(answer) == code
    assert password not in answer.text


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize(("password", "code"), REFUSED.items())
@pytest.mark.parametrize("given", [{}, {"display_name": "Countess Lovelace"}])
async def test_nobody_changes_to_it(
    client_as: Any, session: AsyncSession, method: str, password: str, code: str, given: dict[str, str]
) -> None:
    user = await create_user(session, **(ADA if "display_name" not in given else OLD))
    before = user.password_hash
    client = await client_as(user)

    answer = await client.request(
        method, "/users/me", json=given | {"password": password, "current_password": PASSWORD}
    )

    assert code_of(answer) == code
    await session.refresh(user)
    assert (user.password_hash, user.version) == (before, 1)


@pytest.mark.parametrize("password", REFUSED)
async def test_no_command_makes_an_account_with_it(database_url: str, password: str) -> None:
    with pytest.raises(ValueError, match=r"(?i)password"):
        await create_account(
            database_url, email=ADA["email"], name=ADA["display_name"], password=password, is_admin=True
        )


async def test_one_of_old_still_signs_in(client: httpx2.AsyncClient, session: AsyncSession) -> None:
    weak = PasswordHash((Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1),)).hash("password")
    user: User = await create_user(session, password_hash=weak)

    answer = await client.post("/auth/login", json={"email": user.email, "password": "password"})

    assert answer.status_code == 200
