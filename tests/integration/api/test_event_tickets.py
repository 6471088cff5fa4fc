"""Tickets that open a stream of events where no token can be sent, as from a browser's `EventSource`."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.core.security import hash_secret, issue_token
from app.models import ApiToken, EventTicket, Scope, User, UserSession
from app.services.event_ticket_service import EventTicketService
from tests.builders.agents import create_agent
from tests.builders.tokens import create_token
from tests.builders.users import create_user
from tests.conftest import ClientWith, RunningSystem, token_of
from tests.utils.processes import running_apis
from tests.utils.serving import Serving
from tests.utils.test_utils import problem

# From beyond the end of the log a stream has nothing to tell but that, and ends.
ENDS_AT_ONCE = {"after": "9007199254740991"}
SECONDS = 20


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def ticket_of(client: httpx2.AsyncClient, headers: dict[str, str] | None = None) -> str:
    answer = await client.post("/events/ticket", headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"ticket": answer.json()["ticket"], "expires_in": 30}
    assert answer.headers["Cache-Control"] == "no-store"
    return str(answer.json()["ticket"])


async def open_stream(client: httpx2.AsyncClient, ticket: str) -> httpx2.Response:
    return await client.get("/events/stream", params=ENDS_AT_ONCE | {"ticket": ticket})


async def test_a_ticket_opens_one_stream(client: httpx2.AsyncClient, signed_in: httpx2.AsyncClient) -> None:
    ticket = await ticket_of(signed_in)

    first, second = await open_stream(client, ticket), await open_stream(client, ticket)

    assert (first.status_code, "resync" in first.text) == (200, True)
    assert problem(second, 401)["code"] == "invalid_ticket"
    assert second.headers["WWW-Authenticate"] == "Bearer"


async def test_a_ticket_is_stored_as_a_hash_alone(
    client: httpx2.AsyncClient, signed_in: httpx2.AsyncClient, session: AsyncSession
) -> None:
    ticket = await ticket_of(signed_in)

    [row] = await session.scalars(select(EventTicket))
    assert row.hash == hash_secret(ticket)
    assert problem(await open_stream(client, row.hash), 401)["code"] == "invalid_ticket"


async def test_a_ticket_is_refused_after_its_time(
    client: httpx2.AsyncClient, signed_in: httpx2.AsyncClient, session: AsyncSession
) -> None:
    ticket = await ticket_of(signed_in)
    await session.execute(update(EventTicket).values(expires_at=func.now()))
    await session.commit()

    assert problem(await open_stream(client, ticket), 401)["code"] == "invalid_ticket"


@pytest.mark.parametrize("ticket", ["x", "x" * 43, "%00", "é", "hive_" + "x" * 43])
async def test_what_is_no_ticket_is_refused(client: httpx2.AsyncClient, ticket: str) -> None:
    assert problem(await open_stream(client, ticket), 401)["code"] == "invalid_ticket"


@pytest.mark.parametrize("name", ["token", "access_token"])
async def test_a_token_in_the_address_of_a_stream_is_refused(
    client: httpx2.AsyncClient, user: User, settings: Settings, name: str
) -> None:
    token = token_of(user, settings)
    answer = await client.get("/events/stream", params=ENDS_AT_ONCE | {name: token})

    assert answer.status_code in {401, 422}
    assert problem(await open_stream(client, token), 401)["code"] == "invalid_ticket"


async def test_a_ticket_opens_nothing_but_a_stream(client: httpx2.AsyncClient, signed_in: httpx2.AsyncClient) -> None:
    ticket = await ticket_of(signed_in)

    for path in ("/tasks", "/users/me", "/events"):
        answer = await client.get(path, params={"ticket": ticket})
        assert answer.status_code in {401, 422}
        assert problem(await client.get(path, headers=bearer(ticket)), 401)
    assert (await open_stream(client, ticket)).status_code == 200


async def test_a_request_with_a_token_leaves_the_ticket_unused(
    client: httpx2.AsyncClient, signed_in: httpx2.AsyncClient
) -> None:
    ticket = await ticket_of(signed_in)
    assert (await open_stream(signed_in, ticket)).status_code == 200

    assert (await open_stream(client, ticket)).status_code == 200


async def test_a_request_that_is_refused_leaves_the_ticket_unused(
    app: FastAPI,
    client: httpx2.AsyncClient,
    client_with: ClientWith,
    session: AsyncSession,
    user: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ticket = await ticket_of(await client_with(await create_token(session, user, scopes=[Scope.EVENTS_READ])))

    async def refused(status: int, **parameters: str) -> None:
        assert problem(await client.get("/events/stream", params=parameters | {"ticket": ticket}), status)
        assert await session.scalar(select(EventTicket.hash)) == hash_secret(ticket)

    await refused(422, after="none")
    await refused(422, nothing="1")
    with monkeypatch.context() as patch:
        patch.setattr(app.state.hive.sockets.seats, "_most", 0)
        await refused(429)
    await session.execute(update(ApiToken).values(scopes=[Scope.TASKS_READ]))
    await session.commit()
    await refused(403)
    await session.execute(update(ApiToken).values(scopes=[Scope.EVENTS_READ]))
    await session.commit()
    assert (await open_stream(client, ticket)).status_code == 200


async def test_a_ticket_has_the_rights_of_its_sign_in(
    client: httpx2.AsyncClient, client_with: ClientWith, session: AsyncSession, user: User
) -> None:
    reading = await client_with(await create_token(session, user, scopes=[Scope.EVENTS_READ]))
    agents = await client_with(await create_token(session, await create_agent(session, owner=user)))
    others = await client_with(await create_token(session, user, scopes=[Scope.TASKS_READ]))

    assert problem(await others.post("/events/ticket"), 403)["code"] == "insufficient_scope"
    for program in (reading, agents):
        assert (await open_stream(client, await ticket_of(program))).status_code == 200
    narrowed = await ticket_of(reading)
    await session.execute(update(ApiToken).values(scopes=[Scope.TASKS_READ]))
    await session.commit()
    assert problem(await open_stream(client, narrowed), 403)["code"] == "insufficient_scope"


async def test_a_ticket_says_when_its_sign_in_ends(
    serving: Serving, session: AsyncSession, client_with: ClientWith, settings: Settings, user: User
) -> None:
    lifetimes = {
        timedelta(minutes=5): token_of(user, settings),
        timedelta(minutes=2): await create_token(session, user, expires_at=datetime.now(UTC) + timedelta(minutes=2)),
    }
    for lifetime, token in lifetimes.items():
        ticket = await ticket_of(await client_with(token))

        signed_in = await serving(EventTicketService).redeem(ticket)

        left = signed_in.expires_at - datetime.now(UTC)
        assert lifetime - timedelta(seconds=30) < left <= lifetime


async def test_a_ticket_ends_with_its_session_and_token(
    client: httpx2.AsyncClient, client_with: ClientWith, session: AsyncSession, settings: Settings
) -> None:
    user = await create_user(session)
    token = await create_token(session, user)
    tickets = [await ticket_of(await client_with(each)) for each in (token_of(user, settings), token)]
    await session.execute(update(UserSession).values(expires_at=func.now()))
    await session.execute(update(ApiToken).values(expires_at=func.now()))
    await session.commit()
    assert {(await open_stream(client, each)).status_code for each in tickets} == {401}

    other = await client_with(token_of(leaving := await create_user(session), settings))
    tickets = [await ticket_of(other), await ticket_of(await client_with(await create_token(session, leaving)))]
    assert (await other.delete("/users/me")).status_code == 200

    assert {(await open_stream(client, each)).status_code for each in tickets} == {401}
    left = await session.scalars(select(EventTicket.hash))
    assert not {hash_secret(each) for each in tickets} & {*left}


async def test_tickets_that_nobody_used_are_forgotten(
    client: httpx2.AsyncClient, signed_in: httpx2.AsyncClient, serving: Serving, session: AsyncSession
) -> None:
    old, fresh = await ticket_of(signed_in), await ticket_of(signed_in)
    of_old = EventTicket.hash == hash_secret(old)
    await session.execute(update(EventTicket).where(of_old).values(expires_at=func.now()))

    await serving(EventTicketService).purge()

    assert [*await session.scalars(select(EventTicket.hash))] == [hash_secret(fresh)]


async def test_no_log_has_a_ticket(
    client: httpx2.AsyncClient, signed_in: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    ticket = await ticket_of(signed_in)
    await open_stream(client, ticket)
    logging.getLogger("uvicorn.error").info("GET /api/v1/events/stream?after=0&ticket=%s HTTP/1.1", ticket)

    handler = logging.getLogger().handlers[0]
    assert ticket not in "".join(handler.format(record) for record in caplog.records)


@pytest.fixture
async def elsewhere(hive_environment: dict[str, str]) -> AsyncIterator[httpx2.AsyncClient]:
    """Another API process of the same system."""
    with running_apis(1, hive_environment) as [api]:
        async with httpx2.AsyncClient(base_url=f"{api.address}/api/v1", timeout=SECONDS) as client:
            yield client


@pytest.mark.committed
async def test_any_process_redeems_a_ticket_and_one_of_all_callers_does(
    running_system: RunningSystem, elsewhere: httpx2.AsyncClient, settings: Settings, user: User
) -> None:
    async with httpx2.AsyncClient(base_url=running_system.address, timeout=SECONDS) as here:
        ticket = await ticket_of(here, headers=bearer(token_of(user, settings)))

        answers = await asyncio.gather(*(open_stream(client, ticket) for client in [here, elsewhere] * 5))

    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 9


@pytest.mark.committed
@pytest.mark.parametrize("end", ["session", "account", "expiry"])
async def test_a_stream_by_ticket_ends_with_its_sign_in(
    running_system: RunningSystem, settings: Settings, session: AsyncSession, user: User, end: str
) -> None:
    lifetime = timedelta(seconds=3 if end == "expiry" else 300)
    mine = bearer(issue_token(user.id, user.id, key=settings.jwt_key, lifetime=lifetime))
    others = bearer(token_of(await create_user(session), settings))
    async with (
        httpx2.AsyncClient(base_url=running_system.address, timeout=SECONDS) as http,
        http.stream("GET", "/events/stream", params={"ticket": await ticket_of(http, headers=others)}) as staying,
        http.stream("GET", "/events/stream", params={"ticket": await ticket_of(http, headers=mine)}) as ending,
    ):
        assert (staying.status_code, ending.status_code) == (200, 200)
        if end == "session":
            await http.post("/auth/logout", headers=mine)
        elif end == "account":
            await http.delete("/users/me", headers=mine)

        async with asyncio.timeout(SECONDS):
            await ending.aread()
        answer = await http.post("/tasks", json={"title": "Orchids", "status": "available"}, headers=others)
        assert answer.status_code == 201
        async with asyncio.timeout(SECONDS):
            assert await anext(line async for line in staying.aiter_lines() if answer.json()["id"] in line)
