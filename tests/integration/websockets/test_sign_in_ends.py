"""However a session or a token ends, whatever was opened with it closes in every process, and nothing else does."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Self

import httpx2
import pytest
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from app.config import Settings
from app.models import ApiToken, User, UserSession
from tests.builders.tokens import create_token
from tests.builders.users import PASSWORD
from tests.conftest import RunningSystem, token_of
from tests.utils.test_utils import PATIENCE, SHORTER_THAN_A_WAIT, wait_until_async

# What happens here is asked of one process; the readers are at another one.
pytestmark = pytest.mark.committed

Tokens = dict[str, str]


async def sign_in(client: httpx2.AsyncClient, user: User) -> Tokens:
    answer = await client.post("/auth/login", json={"email": user.email, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    tokens: Tokens = answer.json()
    return tokens


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def other_session(session: AsyncSession, user: User) -> str:
    """The one that was opened last."""
    newest = select(UserSession.id).where(UserSession.user_id == user.id).order_by(UserSession.created_at.desc())
    return str(await session.scalar(newest))


class Scraper:
    """An admin who looks how many wait for news at the process where the readers are."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client

    async def until_waiting(self, pages: int) -> None:
        async def are_so_many() -> bool:
            answer = await self._client.get("/metrics")
            return f'hive_readers{{kind="page"}} {pages}.0' in answer.text

        await wait_until_async(are_so_many, what=f"{pages} who wait")


@pytest.fixture
async def scraper(running_system: RunningSystem, admin: User, settings: Settings) -> AsyncIterator[Scraper]:
    address = running_system.address.removesuffix("/api/v1")
    async with httpx2.AsyncClient(
        base_url=address, headers=bearer(token_of(admin, settings)), timeout=PATIENCE
    ) as client:
        yield Scraper(client)


End = Callable[[httpx2.AsyncClient, AsyncSession, User, Tokens, Tokens], Awaitable[httpx2.Response]]


async def by_logout(client: httpx2.AsyncClient, _: Any, __: User, ___: Tokens, ending: Tokens) -> httpx2.Response:
    return await client.post("/auth/logout", headers=bearer(ending["access_token"]))


async def from_another_session(
    client: httpx2.AsyncClient, session: AsyncSession, user: User, staying: Tokens, _: Tokens
) -> httpx2.Response:
    session_id = await other_session(session, user)
    return await client.delete(f"/users/me/sessions/{session_id}", headers=bearer(staying["access_token"]))


async def with_all_others(
    client: httpx2.AsyncClient, _: Any, __: User, staying: Tokens, ___: Tokens
) -> httpx2.Response:
    return await client.delete("/users/me/sessions", headers=bearer(staying["access_token"]))


async def by_another_password(
    client: httpx2.AsyncClient, _: Any, __: User, staying: Tokens, ___: Tokens
) -> httpx2.Response:
    change = {"password": "an even longer password", "current_password": PASSWORD}
    return await client.patch("/users/me", json=change, headers=bearer(staying["access_token"]))


async def by_reuse(
    client: httpx2.AsyncClient, session: AsyncSession, user: User, _: Tokens, ending: Tokens
) -> httpx2.Response:
    body = {"refresh_token": ending["refresh_token"]}
    answer = await client.post("/auth/refresh", json=body)
    await client.post("/auth/refresh", json={"refresh_token": answer.json()["refresh_token"]})
    assert (await client.post("/auth/refresh", json=body)).status_code == 401
    return answer


@pytest.mark.parametrize("end", [by_logout, from_another_session, with_all_others, by_another_password, by_reuse])
async def test_what_a_session_has_opened_closes_with_it(
    client: httpx2.AsyncClient,
    running_system: RunningSystem,
    scraper: Scraper,
    session: AsyncSession,
    user: User,
    end: End,
) -> None:
    staying, ending = await sign_in(client, user), await sign_in(client, user)
    async with (
        Readers(running_system, ending["access_token"], scraper) as doomed,
        Readers(running_system, staying["access_token"], scraper, waiting=2) as others,
    ):
        answer = await end(client, session, user, staying, ending)
        assert answer.is_success, answer.text

        await doomed.end_in_time()
        await others.go_on()


async def test_what_a_token_has_opened_closes_with_it(
    client: httpx2.AsyncClient, running_system: RunningSystem, scraper: Scraper, session: AsyncSession, user: User
) -> None:
    here = await sign_in(client, user)
    revoked, staying = await create_token(session, user, name="Revoked"), await create_token(session, user)
    token_id = await session.scalar(select(ApiToken.id).where(ApiToken.name == "Revoked"))
    async with (
        Readers(running_system, revoked, scraper) as doomed,
        Readers(running_system, staying, scraper, waiting=2) as others,
    ):
        answer = await client.delete(f"/users/me/tokens/{token_id}", headers=bearer(here["access_token"]))
        assert answer.is_success, answer.text

        await doomed.end_in_time()
        await others.go_on()


async def test_a_session_lasts_from_one_process_to_the_next(
    client: httpx2.AsyncClient, running_system: RunningSystem, session: AsyncSession, user: User
) -> None:
    """None of them remembers anything of it, so a restart ends none."""
    here = await sign_in(client, user)
    async with httpx2.AsyncClient(base_url=running_system.address, timeout=PATIENCE) as elsewhere:
        body = {"refresh_token": here["refresh_token"]}
        there = await elsewhere.post("/auth/refresh", json=body)
        lost = await client.post("/auth/refresh", json=body)

        assert there.json()["refresh_token"] == lost.json()["refresh_token"]
        me = await client.get("/users/me", headers=bearer(there.json()["access_token"]))
        assert me.json()["id"] == str(user.id)
        await session.execute(update(UserSession).values(current_hash="another"))
        await session.commit()
        again = await elsewhere.post("/auth/refresh", json={"refresh_token": lost.json()["refresh_token"]})
        assert again.status_code == 401


class Readers:
    """A socket, a stream, a page that waits and a claim that waits, all open with one token.

    `waiting` is how many pages and claims others have there.
    """

    def __init__(self, system: RunningSystem, token: str, scraper: Scraper, *, waiting: int = 0) -> None:
        self._system = system
        self._token = token
        self._scraper = scraper
        self._waiting = waiting
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        http = httpx2.AsyncClient(base_url=self._system.address, headers=bearer(self._token), timeout=PATIENCE)
        await self._stack.enter_async_context(http)
        self.socket: ClientConnection = await self._stack.enter_async_context(
            connect(f"{self._system.sockets}?token={self._token}", proxy=None)
        )
        await self._ping()
        self._stream = await self._stack.enter_async_context(http.stream("GET", "/events/stream"))
        assert self._stream.status_code == 200
        self._reading = asyncio.create_task(self._stream.aread())
        await self._scraper.until_waiting(self._waiting)
        self._page = asyncio.create_task(http.get("/events", params={"wait": 30, "types": "task.deleted"}))
        self._claim = asyncio.create_task(http.post("/tasks/claim-next", json={"wait": 30}))
        await self._scraper.until_waiting(self._waiting + 2)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in (self._reading, self._page, self._claim):
            task.cancel()
        await asyncio.gather(self._reading, self._page, self._claim, return_exceptions=True)
        await self._stack.aclose()

    async def end_in_time(self) -> None:
        async with asyncio.timeout(SHORTER_THAN_A_WAIT):
            assert await self._close_code() == 4401
            await self._reading
            assert (await self._page).json()["events"] == []
            assert (await self._claim).status_code == 204

    async def go_on(self) -> None:
        await self._ping()
        assert not self._reading.done()
        assert not self._page.done()
        assert not self._claim.done()

    async def _ping(self) -> None:
        await self.socket.send('{"type": "ping"}')
        async with asyncio.timeout(PATIENCE):
            while json.loads(await self.socket.recv())["type"] != "pong":
                pass

    async def _close_code(self) -> int:
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await self.socket.recv()
        assert closed.value.rcvd is not None
        return closed.value.rcvd.code
