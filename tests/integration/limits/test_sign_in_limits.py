"""Failed sign-ins: five a minute for an account, ten from an address, wherever a password can be tried."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import httpx2
import pytest
from fastapi import FastAPI
from redis.asyncio import Redis
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import Forbidden, HiveError, ServiceUnavailable, Unauthorized
from app.limits.memory import RecentHits
from app.limits.sign_ins import TooManyAttempts
from app.models import Event, EventType, Job, JobName, Notification, NotificationKind, User
from app.services.notifier import Notifier
from tests.builders.users import PASSWORD, create_user
from tests.conftest import ClientAs
from tests.utils.callers import client_at
from tests.utils.serving import Serving
from tests.utils.test_utils import problem

WRONG = "not the right password"
HERE, ELSEWHERE = "198.51.100.1", "198.51.100.2"
SignIn = Callable[[httpx2.AsyncClient, str, str], Awaitable[httpx2.Response]]


async def by_login(client: httpx2.AsyncClient, email: str, password: str) -> httpx2.Response:
    return await client.post("/auth/login", json={"email": email, "password": password})


async def by_form(client: httpx2.AsyncClient, email: str, password: str) -> httpx2.Response:
    return await client.post("/auth/token", data={"username": email, "password": password})


def assert_refused(answer: httpx2.Response, *, most: int = 60) -> None:
    assert problem(answer, 429)["code"] == "too_many_attempts"
    assert 0 < int(answer.headers["Retry-After"]) <= most


def without_id(answer: httpx2.Response) -> dict[str, object]:
    return {name: value for name, value in answer.json().items() if name != "request_id"}


@pytest.mark.parametrize("sign_in", [by_login, by_form])
async def test_after_five_wrong_passwords_none_is_checked_the_right_one_neither(
    client: httpx2.AsyncClient, user: User, verifications: list[str], sign_in: SignIn
) -> None:
    for _ in range(5):
        assert (await sign_in(client, user.email, WRONG)).status_code == 401
    assert len(verifications) == 5

    for password in (WRONG, PASSWORD):
        assert_refused(await sign_in(client, user.email, password))

    assert len(verifications) == 5


async def test_the_ways_to_sign_in_are_counted_together_however_the_address_is_spelled(
    client: httpx2.AsyncClient, session: AsyncSession
) -> None:
    await create_user(session, email="ada.lovelace@example.org")
    for sign_in, email in (
        (by_login, "ada.lovelace@example.org"),
        (by_form, "ADA.Lovelace@example.org"),
        (by_login, "ada.lovelace@EXAMPLE.org"),
        (by_form, "Ada.Lovelace@Example.Org"),
        (by_login, "ada.lovelace@example.org"),
    ):
        assert (await sign_in(client, email, WRONG)).status_code == 401

    assert_refused(await by_form(client, "ada.lovelacE@example.org", PASSWORD))


@pytest.mark.parametrize("email", ["nobody@example.org", "no address", "n\x00l", "x" * 1000])
async def test_an_account_that_does_not_exist_is_limited_alike(
    app: FastAPI, client: httpx2.AsyncClient, user: User, email: str
) -> None:
    async with client_at(ELSEWHERE, app) as elsewhere:
        known = [await by_login(client, user.email, WRONG) for _ in range(7)]
        unknown = [await by_login(elsewhere, email, WRONG) for _ in range(7)]

    assert [answer.status_code for answer in known] == [401] * 5 + [429] * 2
    for one, other in zip(known, unknown, strict=True):
        assert without_id(one) == without_id(other)
        assert set(one.headers) == set(other.headers)


async def test_an_account_is_limited_from_all_addresses_together(app: FastAPI, user: User) -> None:
    for number in range(5):
        async with client_at(f"203.0.113.{number}", app) as client:
            assert (await by_login(client, user.email, WRONG)).status_code == 401

    async with client_at("203.0.113.99", app) as client:
        assert_refused(await by_login(client, user.email, PASSWORD))


async def test_an_address_is_limited_over_all_accounts_together_and_others_are_not(app: FastAPI, user: User) -> None:
    async with client_at(HERE, app) as client, client_at(ELSEWHERE, app) as elsewhere:
        for number in range(10):
            assert (await by_login(client, f"person{number}@example.org", WRONG)).status_code == 401

        assert_refused(await by_login(client, user.email, PASSWORD))
        assert (await by_login(elsewhere, user.email, PASSWORD)).status_code == 200


async def test_addresses_of_one_ipv6_network_are_one(app: FastAPI, user: User) -> None:
    for number in range(10):
        async with client_at(f"2001:db8:0:1::{number:x}", app) as client:
            assert (await by_login(client, f"person{number}@example.org", WRONG)).status_code == 401

    async with client_at("2001:db8:0:1:ffff::1", app) as client:
        assert_refused(await by_login(client, user.email, PASSWORD))
    async with client_at("2001:db8:0:2::1", app) as client:
        assert (await by_login(client, user.email, PASSWORD)).status_code == 200


async def test_what_a_stranger_says_of_its_address_changes_nothing(app: FastAPI, user: User) -> None:
    async with client_at(HERE, app) as client:
        for number in range(10):
            client.headers["X-Forwarded-For"] = f"203.0.113.{number}"
            assert (await by_login(client, f"person{number}@example.org", WRONG)).status_code == 401
        client.headers["X-Forwarded-For"] = "203.0.113.99"

        assert_refused(await by_login(client, user.email, PASSWORD))


async def test_right_passwords_do_not_count(client: httpx2.AsyncClient, user: User) -> None:
    for _ in range(4):
        for _ in range(4):
            assert (await by_login(client, user.email, PASSWORD)).status_code == 200
        assert (await by_login(client, user.email, WRONG)).status_code == 401

    assert (await by_login(client, user.email, PASSWORD)).status_code == 200
    assert (await by_login(client, user.email, WRONG)).status_code == 401
    assert_refused(await by_login(client, user.email, PASSWORD))


async def test_attempts_that_are_refused_do_not_count(client: httpx2.AsyncClient, user: User, other_user: User) -> None:
    for _ in range(20):
        await by_login(client, user.email, WRONG)

    for _ in range(5):
        assert (await by_login(client, other_user.email, WRONG)).status_code == 401
    assert_refused(await by_login(client, "nobody@example.org", WRONG))


async def test_credentials_that_cannot_be_read_are_no_failed_sign_ins(client: httpx2.AsyncClient, user: User) -> None:
    for _ in range(12):
        assert (await client.post("/auth/login", json={"email": user.email})).status_code == 422

    assert (await by_login(client, user.email, PASSWORD)).status_code == 200


@pytest.mark.committed
async def test_of_many_wrong_passwords_at_once_five_are_checked(
    client: httpx2.AsyncClient, user: User, verifications: list[str]
) -> None:
    answers = await asyncio.gather(*(by_login(client, user.email, WRONG) for _ in range(50)))

    assert sorted(answer.status_code for answer in answers) == [401] * 5 + [429] * 45
    assert len(verifications) == 5


@pytest.mark.committed
async def test_of_many_accounts_tried_at_once_from_one_address_ten_are_checked(
    client: httpx2.AsyncClient, session: AsyncSession, verifications: list[str]
) -> None:
    answers = await asyncio.gather(*(by_login(client, f"person{number}@example.org", WRONG) for number in range(50)))

    assert sorted(answer.status_code for answer in answers) == [401] * 10 + [429] * 40
    assert len(verifications) == 10


@pytest.mark.committed
async def test_many_right_passwords_at_once_all_sign_in(client: httpx2.AsyncClient, user: User) -> None:
    answers = await asyncio.gather(*(by_login(client, user.email, PASSWORD) for _ in range(50)))

    assert {(answer.status_code, answer.json().get("code")) for answer in answers} == {(200, None)}
    assert (await by_login(client, user.email, WRONG)).status_code == 401


async def test_a_wrong_current_password_is_a_failed_sign_in_to_that_account(
    app: FastAPI, client_as: ClientAs, session: AsyncSession, user: User, verifications: list[str]
) -> None:
    mine = await client_as(user)
    change = {"password": "a password that is new", "current_password": WRONG}
    for method in ("PATCH", "PUT", "PATCH"):
        assert problem(await mine.request(method, "/users/me", json=change), 403)["code"] == "wrong_password"
    async with client_at(ELSEWHERE, app) as elsewhere:
        for _ in range(2):
            assert (await by_login(elsewhere, user.email, WRONG)).status_code == 401
        assert_refused(await by_login(elsewhere, user.email, PASSWORD))

    assert_refused(await mine.patch("/users/me", json=change | {"current_password": PASSWORD}))

    assert len(verifications) == 5
    # What needs no password goes on.
    assert (await mine.patch("/users/me", json={"role": "Gardener"})).status_code == 200
    before = user.password_hash
    await session.refresh(user)
    assert (user.password_hash, user.role) == (before, "Gardener")


async def test_a_minute_after_the_first_failure_there_is_one_more_try(
    app: FastAPI, client: httpx2.AsyncClient, user: User
) -> None:
    for _ in range(6):
        await by_login(client, user.email, WRONG)

    await let_time_pass(app, seconds=61)

    assert (await by_login(client, user.email, PASSWORD)).status_code == 200


@pytest.mark.parametrize(("minutes", "failures"), [(1, 20), (61, 50)])
async def test_an_hour_and_a_day_have_limits_of_their_own(
    app: FastAPI, client: httpx2.AsyncClient, user: User, verifications: list[str], minutes: int, failures: int
) -> None:
    for number in range(failures):
        if number % 5 == 0:
            await let_time_pass(app, seconds=minutes * 60 + 1 if number % 20 == 0 else 61)
        assert (await by_login(client, user.email, WRONG)).status_code == 401
    await let_time_pass(app, seconds=61)

    assert_refused(await by_login(client, user.email, PASSWORD), most=24 * 60 * 60)

    assert len(verifications) == failures
    await let_time_pass(app, seconds=24 * 60 * 60)
    assert (await by_login(client, user.email, PASSWORD)).status_code == 200


async def test_strangers_do_not_lock_out_who_signs_in_where_they_usually_are(
    app: FastAPI, user: User, verifications: list[str]
) -> None:
    async with client_at(HERE, app) as home, client_at(ELSEWHERE, app) as cafe:
        assert (await by_login(home, user.email, PASSWORD)).status_code == 200
        for number in range(50):
            if number % 5 == 0:
                await let_time_pass(app, seconds=61 if number % 20 else 3_601)
            async with client_at(f"203.0.113.{number}", app) as stranger:
                assert (await by_login(stranger, user.email, WRONG)).status_code == 401

        assert_refused(await by_login(cafe, user.email, PASSWORD), most=24 * 60 * 60)
        assert (await by_login(home, user.email, PASSWORD)).status_code == 200
        # Who is known somewhere may not try there without end either.
        for _ in range(5):
            assert (await by_login(home, user.email, WRONG)).status_code == 401
        assert_refused(await by_login(home, user.email, PASSWORD))


async def test_the_owner_is_told_once_a_day(
    app: FastAPI, client: httpx2.AsyncClient, serving: Serving, session: AsyncSession, user: User
) -> None:
    async def asked() -> list[str]:
        named = select(Job.arguments["user_id"].astext).where(Job.name == JobName.TELL_OF_FAILED_SIGN_INS)
        return list(await session.scalars(named))

    for _ in range(4):
        await by_login(client, user.email, WRONG)
    assert await asked() == []
    for _ in range(3):
        await by_login(client, user.email, WRONG)
    await let_time_pass(app, seconds=61)
    await by_login(client, user.email, WRONG)
    for _ in range(6):
        await by_login(client, "nobody@example.org", WRONG)
    assert await asked() == [str(user.id)]

    await serving(lambda transaction: Notifier(transaction, sends_mail=True)).tell_of_failed_sign_ins(user.id)

    told = (await session.scalars(select(Notification))).one()
    assert (told.user_id, told.kind, told.task_id) == (user.id, NotificationKind.SIGN_INS_FAILED, None)
    event = (await session.scalars(select(Event).where(Event.type == EventType.NOTIFICATION_CREATED))).one()
    assert event.audience == [user.id]
    mail = select(func.count()).select_from(Job).where(Job.name == JobName.SEND_MAIL)
    assert await session.scalar(mail) == 1


async def let_time_pass(app: FastAPI, *, seconds: float) -> None:
    """Make what was counted in Redis that much older, and what was counted in memory past."""
    redis: Redis = app.state.hive.redis
    async for key in redis.scan_iter("hive:limits:sign-in*"):
        entries = [float(entry) - seconds for entry in await redis.lrange(key, 0, -1)]
        assert all(entry < time.time() - seconds + 30 for entry in entries)
        await redis.delete(key)
        await redis.rpush(key, *entries)
        await redis.expire(key, 24 * 60 * 60)
    app.state.hive.limits.sign_ins._recent = RecentHits()


async def test_a_secret_that_names_no_account_is_limited_by_address_alone(app: FastAPI) -> None:
    limits = app.state.hive.limits

    async def try_secret(address: str, error: HiveError) -> None:
        async with limits.sign_ins.attempt(address, None):
            raise error

    for error in [Unauthorized("wrong")] * 5 + [ServiceUnavailable("later")] * 12 + [Forbidden("wrong")] * 5:
        with pytest.raises(type(error)):
            await try_secret(HERE, error)
    with pytest.raises(TooManyAttempts):
        await try_secret(HERE, Unauthorized("wrong"))
    with pytest.raises(Unauthorized):
        await try_secret(ELSEWHERE, Unauthorized("wrong"))


async def test_redis_learns_no_address_of_an_account(app: FastAPI, client: httpx2.AsyncClient, user: User) -> None:
    await by_login(client, user.email, WRONG)

    keys = [key async for key in app.state.hive.redis.scan_iter("hive:limits:sign-in-account*")]

    assert len(keys) == 1
    assert user.email not in keys[0]
    assert 0 < await app.state.hive.redis.ttl(keys[0]) <= 24 * 60 * 60
