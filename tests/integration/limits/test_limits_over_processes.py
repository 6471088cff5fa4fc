"""Limits hold over all API processes together."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import httpx2
import pytest

from app.config import Settings
from app.core.redis import connect_redis
from app.models import User
from tests.conftest import forget_callers, token_of
from tests.utils.processes import running_apis
from tests.utils.test_utils import PATIENCE

pytestmark = [pytest.mark.committed, pytest.mark.usefixtures("fresh_limits")]

MOST = 20


@pytest.fixture(scope="module")
def addresses(system_environment: dict[str, str]) -> Iterator[list[str]]:
    """Two API processes behind a proxy on this machine, where each caller has twenty requests a minute."""
    further = {"REQUESTS_PER_MINUTE": str(MOST), "TRUSTED_PROXIES": "127.0.0.1", "LOG_LEVEL": "WARNING"}
    with running_apis(2, system_environment | further) as apis:
        yield [api.base_url for api in apis]


@pytest.fixture
async def fresh_limits(redis_url: str) -> AsyncIterator[None]:
    redis = connect_redis(redis_url)
    await forget_callers(redis)
    yield
    await redis.aclose()


@pytest.fixture
async def clients(addresses: list[str]) -> AsyncIterator[list[httpx2.AsyncClient]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(httpx2.AsyncClient(base_url=address, timeout=PATIENCE))
            for address in addresses
        ]


async def test_requests_of_a_user_are_counted_over_both(
    clients: list[httpx2.AsyncClient], settings: Settings, user: User
) -> None:
    headers = {"Authorization": f"Bearer {token_of(user, settings)}"}

    both = await asyncio.gather(*(clients[n % 2].get("/users/me", headers=headers) for n in range(MOST * 2)))

    assert Counter(answer.status_code for answer in both) == {200: MOST, 429: MOST}
    for client in clients:
        assert (await client.get("/users/me", headers=headers)).json()["code"] == "too_many_requests"


async def test_wrong_passwords_at_both_at_once_are_checked_five_times(
    clients: list[httpx2.AsyncClient], user: User
) -> None:
    def attempt(number: int) -> dict[str, str]:
        # Each from another address, or the address's own limit would be reached first.
        return {"X-Forwarded-For": f"203.0.113.{number}"}

    body = {"email": user.email, "password": "not the right password"}
    both = await asyncio.gather(*(clients[n % 2].post("/auth/login", json=body, headers=attempt(n)) for n in range(50)))

    assert Counter(answer.status_code for answer in both) == {401: 5, 429: 45}
    assert {answer.json()["code"] for answer in both} == {"invalid_credentials", "too_many_attempts"}


async def test_failures_from_one_address_are_counted_over_both(
    clients: list[httpx2.AsyncClient],
) -> None:
    here = {"X-Forwarded-For": "192.0.2.1, 203.0.113.200"}
    bodies = [{"email": f"person{n}@example.org", "password": "wrong"} for n in range(MOST)]

    both = await asyncio.gather(
        *(clients[n % 2].post("/auth/login", json=body, headers=here) for n, body in enumerate(bodies))
    )

    assert Counter(answer.status_code for answer in both) == {401: 10, 429: 10}
    assert {answer.json()["code"] for answer in both} == {"invalid_credentials", "too_many_attempts"}
