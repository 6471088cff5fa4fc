"""Sessions: kept up by refresh tokens that are good once, and ended by logout, by theft, by another password."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx2
import jwt
import pytest
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.api_v1 import auth
from app.config import Settings
from app.core.auth import InvalidCredentials
from app.core.refresh_tokens import RefreshToken
from app.core.security import ALGORITHM, AUDIENCE
from app.models import Event, EventType, IdempotentRequest, User, UserSession
from app.services.session_service import SessionService
from tests.builders.users import PASSWORD, create_user
from tests.utils.serving import Serving
from tests.utils.test_utils import problem

NEW_PASSWORD = "an even longer password"


@dataclass(frozen=True)
class Held:
    """What somebody who has signed in holds."""

    access: dict[str, str]
    refresh: str

    @classmethod
    def of(cls, answer: httpx2.Response) -> "Held":
        assert answer.status_code == 200, answer.text
        body = answer.json()
        return cls({"Authorization": f"Bearer {body['access_token']}"}, body["refresh_token"])

    @property
    def session_id(self) -> UUID:
        claims = jwt.decode(self.access["Authorization"].split()[1], options={"verify_signature": False})
        return UUID(claims["sid"])


SignIn = Callable[..., Awaitable[Held]]


@pytest.fixture
def sign_in(client: httpx2.AsyncClient) -> SignIn:
    async def sign_in(user: User, **headers: str) -> Held:
        credentials = {"email": user.email, "password": PASSWORD}
        return Held.of(await client.post("/auth/login", json=credentials, headers=headers))

    return sign_in


async def refresh(client: httpx2.AsyncClient, token: str) -> httpx2.Response:
    return await client.post("/auth/refresh", json={"refresh_token": token})


async def is_in(client: httpx2.AsyncClient, held: Held) -> bool:
    answer = await client.get("/users/me", headers=held.access)
    assert answer.status_code in {200, 401}
    return answer.status_code == 200


def without_id(answer: httpx2.Response) -> dict[str, object]:
    return {name: value for name, value in answer.json().items() if name != "request_id"}


async def ended(session: AsyncSession) -> list[UUID]:
    """The sessions and tokens of which the log says that they have ended."""
    told = await session.scalars(select(Event).where(Event.type == EventType.SIGN_IN_ENDED).order_by(Event.position))
    return [UUID(each) for event in told for each in event.data["sign_in_ids"]]


async def age(session: AsyncSession, held: Held, **by: float) -> None:
    """Move everything of the session that much into the past."""
    earlier = timedelta(**by)
    await session.execute(
        update(UserSession)
        .where(UserSession.id == held.session_id)
        .values(refreshed_at=UserSession.refreshed_at - earlier, expires_at=UserSession.expires_at - earlier)
    )
    await session.commit()


async def test_signing_in_gives_a_token_for_the_next_token(
    client: httpx2.AsyncClient, session: AsyncSession, user: User, sign_in: SignIn
) -> None:
    held = await sign_in(user)

    answer = await refresh(client, held.refresh)

    assert set(answer.json()) == {"access_token", "token_type", "expires_in", "refresh_token"}
    assert (answer.json()["token_type"], answer.json()["expires_in"]) == ("bearer", 900)
    assert answer.headers["Cache-Control"] == "no-store"
    following = Held.of(answer)
    assert following.refresh != held.refresh
    assert following.session_id == held.session_id
    assert await is_in(client, held)
    assert await is_in(client, following)
    row = await session.get_one(UserSession, held.session_id, populate_existing=True)
    assert timedelta(days=29) < row.expires_at - row.refreshed_at <= timedelta(days=30)


async def test_the_form_of_oauth_gives_the_same(client: httpx2.AsyncClient, user: User) -> None:
    held = Held.of(await client.post("/auth/token", data={"username": user.email, "password": PASSWORD}))

    assert (await refresh(client, held.refresh)).status_code == 200


async def refresh_by_oauth(client: httpx2.AsyncClient, token: str) -> httpx2.Response:
    return await client.post("/auth/token", data={"grant_type": "refresh_token", "refresh_token": token})


async def test_the_refresh_grant_of_oauth_gives_the_same(
    client: httpx2.AsyncClient, user: User, sign_in: SignIn
) -> None:
    held = await sign_in(user)

    answer = await refresh_by_oauth(client, held.refresh)

    assert set(answer.json()) == {"access_token", "token_type", "expires_in", "refresh_token"}
    assert answer.headers["Cache-Control"] == "no-store"
    following = Held.of(answer)
    assert following.session_id == held.session_id
    assert following.refresh != held.refresh
    assert await is_in(client, following)


async def test_a_refresh_token_comes_twice_by_oauth_and_ends_its_session(
    client: httpx2.AsyncClient, session: AsyncSession, user: User, sign_in: SignIn
) -> None:
    held = await sign_in(user)
    following = Held.of(await refresh_by_oauth(client, held.refresh))
    await refresh_by_oauth(client, following.refresh)

    answer = await refresh_by_oauth(client, held.refresh)

    assert problem(answer, 400)["error"] == "invalid_grant"
    assert await ended(session) == [held.session_id]
    assert not await is_in(client, following)


@pytest.mark.parametrize(
    ("form", "status", "code", "error"),
    [
        ({"username": "x@example.org", "password": "wrong"}, 401, "invalid_credentials", "invalid_grant"),
        ({"grant_type": "refresh_token", "refresh_token": "x"}, 400, "invalid_refresh_token", "invalid_grant"),
        ({"grant_type": "refresh_token"}, 422, "invalid_request", "invalid_request"),
        ({"grant_type": "password", "username": "x@example.org"}, 422, "invalid_request", "invalid_request"),
        ({"grant_type": "client_credentials"}, 400, "unsupported_grant_type", "unsupported_grant_type"),
        ({}, 422, "invalid_request", "invalid_request"),
    ],
)
async def test_an_error_of_the_token_endpoint_is_in_oauths_words_too(
    client: httpx2.AsyncClient, form: dict[str, str], status: int, code: str, error: str
) -> None:
    found = problem(await client.post("/auth/token", data=form), status)

    assert (found["code"], found["error"], found["error_description"]) == (code, error, found["detail"])


async def test_a_fault_of_ours_is_in_oauths_words_too(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def break_down(*_: object, **_named: object) -> None:
        raise RuntimeError("the secret of a fault")

    monkeypatch.setattr(auth, "refresh_session", break_down)
    by_oauth = await refresh_by_oauth(client, "x")
    elsewhere = await client.post("/auth/refresh", json={"refresh_token": "x"})

    found = problem(by_oauth, 500)
    assert (found["code"], found["error"], found["error_description"]) == (
        "internal_error",
        "server_error",
        found["detail"],
    )
    assert "error" not in problem(elsewhere, 500)
    assert "secret" not in by_oauth.text + elsewhere.text


async def test_too_many_wrong_passwords_are_in_oauths_words_too(client: httpx2.AsyncClient, user: User) -> None:
    form = {"username": user.email, "password": "wrong"}
    answers = [await client.post("/auth/token", data=form) for _ in range(6)]

    assert problem(answers[-1], 429)["error"] == "temporarily_unavailable"
    assert "Retry-After" in answers[-1].headers


async def test_nothing_that_is_stored_lets_anybody_in(
    client: httpx2.AsyncClient, session: AsyncSession, user: User, sign_in: SignIn
) -> None:
    first = await sign_in(user)
    second = Held.of(
        await client.post("/auth/refresh", json={"refresh_token": first.refresh}, headers={"Idempotency-Key": "k"})
    )
    row = await session.get_one(UserSession, first.session_id, populate_existing=True)

    stored = str([getattr(row, column.key) for column in UserSession.__table__.columns])

    for token in (first.refresh, second.refresh):
        assert token[:43] not in stored
        assert token[43:] not in stored
    for guess in (row.family_hash, row.current_hash, row.family_hash + row.current_hash, str(row.id)):
        assert problem(await refresh(client, guess), 401)["code"] == "invalid_refresh_token"
    assert await session.scalar(select(func.count()).select_from(IdempotentRequest)) == 0


async def test_a_token_that_comes_a_second_time_ends_its_session(
    client: httpx2.AsyncClient, session: AsyncSession, user: User, sign_in: SignIn
) -> None:
    """Somebody else has it, and nobody can tell who is who."""
    first, elsewhere = await sign_in(user), await sign_in(user)
    second = Held.of(await refresh(client, first.refresh))
    third = Held.of(await refresh(client, second.refresh))

    reused = await refresh(client, first.refresh)

    assert problem(reused, 401)["code"] == "invalid_refresh_token"
    assert not await is_in(client, third)
    assert problem(await refresh(client, third.refresh), 401)
    assert await ended(session) == [first.session_id]
    assert await session.get(UserSession, first.session_id) is None
    assert await is_in(client, elsewhere)


async def test_the_oldest_token_is_known_after_many_others(
    client: httpx2.AsyncClient, user: User, sign_in: SignIn
) -> None:
    oldest = held = await sign_in(user)
    for _ in range(5):
        held = Held.of(await refresh(client, held.refresh))

    assert (await refresh(client, oldest.refresh)).status_code == 401
    assert not await is_in(client, held)


async def test_who_did_not_get_the_answer_may_ask_again(
    client: httpx2.AsyncClient, session: AsyncSession, user: User, sign_in: SignIn
) -> None:
    first = await sign_in(user)
    lost = Held.of(await refresh(client, first.refresh))
    await age(session, first, seconds=5)

    again = Held.of(await refresh(client, first.refresh))

    assert again.refresh == lost.refresh
    assert await is_in(client, again)
    assert (await refresh(client, again.refresh)).status_code == 200
    assert await ended(session) == []


async def test_asking_again_too_late_ends_the_session(
    client: httpx2.AsyncClient, session: AsyncSession, user: User, sign_in: SignIn
) -> None:
    first = await sign_in(user)
    second = Held.of(await refresh(client, first.refresh))
    await age(session, first, seconds=11)

    assert (await refresh(client, first.refresh)).status_code == 401
    assert (await refresh(client, second.refresh)).status_code == 401
    assert await ended(session) == [first.session_id]


@pytest.mark.committed
async def test_of_several_refreshes_at_once_none_logs_out(
    client: httpx2.AsyncClient, session: AsyncSession, user: User, sign_in: SignIn
) -> None:
    first = await sign_in(user)

    answers = await asyncio.gather(*(refresh(client, first.refresh) for _ in range(8)))

    following = [Held.of(answer) for answer in answers]
    assert len({held.refresh for held in following}) == 1
    assert await ended(session) == []
    assert (await refresh(client, following[0].refresh)).status_code == 200


@pytest.mark.committed
async def test_a_refresh_beside_a_logout_leaves_nothing(
    client: httpx2.AsyncClient, session: AsyncSession, user: User, sign_in: SignIn
) -> None:
    for _ in range(10):
        held = await sign_in(user)

        refreshed, out = await asyncio.gather(
            refresh(client, held.refresh), client.post("/auth/logout", headers=held.access)
        )

        assert out.status_code == 200
        assert not await is_in(client, held)
        if refreshed.status_code == 200:
            following = Held.of(refreshed)
            assert not await is_in(client, following)
            assert (await refresh(client, following.refresh)).status_code == 401
        assert await session.get(UserSession, held.session_id) is None


async def test_every_refusal_of_a_refresh_is_the_same(
    client: httpx2.AsyncClient, session: AsyncSession, user: User, sign_in: SignIn
) -> None:
    expired, out, reused, gone = [await sign_in(user) for _ in range(3)] + [await sign_in(await create_user(session))]
    await age(session, expired, days=31)
    await client.post("/auth/logout", headers=out.access)
    for _ in range(2):
        reused = Held.of(await refresh(client, reused.refresh))
    await client.delete("/users/me", headers=gone.access)
    access = reused.access["Authorization"].split()[1]
    forged = RefreshToken(RefreshToken.new().family, reused.refresh[43:]).text
    tokens = [expired.refresh, out.refresh, gone.refresh, RefreshToken.new().text, forged, access, "x", "ä" * 86]

    answers = [await refresh(client, token) for token in tokens]

    assert {answer.status_code for answer in answers} == {401}
    assert len({str(without_id(answer)) for answer in answers}) == 1
    assert {answer.headers["WWW-Authenticate"] for answer in answers} == {"Bearer"}


@pytest.mark.parametrize(
    "body", [{}, {"refresh_token": ""}, {"refresh_token": 1}, {"refresh_token": "x", "more": 1}, []]
)
async def test_a_refresh_of_another_shape_is_malformed(client: httpx2.AsyncClient, body: Any) -> None:
    assert problem(await client.post("/auth/refresh", json=body), 422)["code"] == "invalid_request"


async def test_a_session_that_has_run_out_lets_nobody_in(
    client: httpx2.AsyncClient, session: AsyncSession, user: User, sign_in: SignIn
) -> None:
    held = await sign_in(user)
    await age(session, held, days=31)

    assert not await is_in(client, held)


async def test_logout_ends_the_session_at_once_and_no_other(
    client: httpx2.AsyncClient, session: AsyncSession, user: User, sign_in: SignIn
) -> None:
    here, elsewhere = await sign_in(user), await sign_in(user)

    answer = await client.post("/auth/logout", headers=here.access)

    assert (answer.status_code, answer.json()) == (200, {"message": "Signed out"})
    assert not await is_in(client, here)
    assert await is_in(client, elsewhere)
    assert problem(await client.post("/auth/logout", headers=here.access), 401)
    assert await ended(session) == [here.session_id]


async def test_the_list_says_where_one_is_signed_in(
    client: httpx2.AsyncClient, user: User, other_user: User, sign_in: SignIn
) -> None:
    phone = await sign_in(user, **{"User-Agent": "Phone\t" + "x" * 300})
    laptop = await sign_in(user, **{"User-Agent": "Laptop"})
    await sign_in(other_user)

    answer = await client.get("/users/me/sessions", headers=laptop.access)

    newest, older, _of_the_test = answer.json()
    assert set(newest) == {"id", "current", "user_agent", "created_at", "refreshed_at", "expires_at"}
    assert (newest["id"], newest["current"], newest["user_agent"]) == (str(laptop.session_id), True, "Laptop")
    assert (older["id"], older["current"]) == (str(phone.session_id), False)
    assert older["user_agent"] == "Phone" + "x" * 195


async def test_the_list_comes_in_pages(client: httpx2.AsyncClient, user: User, sign_in: SignIn) -> None:
    held = [await sign_in(user) for _ in range(3)][-1]

    first = await client.get("/users/me/sessions", params={"limit": 3}, headers=held.access)
    rest = await client.get(first.links["next"]["url"].removeprefix("/api/v1"), headers=held.access)

    assert (len(first.json()), len(rest.json())) == (3, 1)
    assert "next" not in rest.links


async def test_one_session_is_ended_from_another(
    client: httpx2.AsyncClient, session: AsyncSession, user: User, sign_in: SignIn
) -> None:
    here, lost = await sign_in(user), await sign_in(user)

    answer = await client.delete(f"/users/me/sessions/{lost.session_id}", headers=here.access)

    assert (answer.status_code, answer.json()) == (200, {"message": "Session ended"})
    assert not await is_in(client, lost)
    assert (await refresh(client, lost.refresh)).status_code == 401
    assert await is_in(client, here)
    assert await ended(session) == [lost.session_id]
    again = await client.delete(f"/users/me/sessions/{lost.session_id}", headers=here.access)
    assert problem(again, 404)["code"] == "session_not_found"


async def test_nobody_ends_a_session_of_somebody_else(
    client: httpx2.AsyncClient, signed_in_admin: httpx2.AsyncClient, user: User, sign_in: SignIn
) -> None:
    held = await sign_in(user)

    answer = await signed_in_admin.delete(f"/users/me/sessions/{held.session_id}")

    assert problem(answer, 404)["code"] == "session_not_found"
    assert await is_in(client, held)


async def test_all_other_sessions_are_ended_together(
    client: httpx2.AsyncClient, session: AsyncSession, user: User, other_user: User, sign_in: SignIn
) -> None:
    here, *others = [await sign_in(user) for _ in range(3)]
    of_somebody_else = await sign_in(other_user)

    answer = await client.delete("/users/me/sessions", headers=here.access)

    # One more is that of the test's own clients.
    assert answer.json() == {"message": "Other sessions ended", "ended": 3}
    assert [await is_in(client, held) for held in (here, *others, of_somebody_else)] == [True, False, False, True]
    assert set(await ended(session)) == {user.id, *(held.session_id for held in others)}
    assert (await client.delete("/users/me/sessions", headers=here.access)).json()["ended"] == 0


@pytest.mark.committed
async def test_sessions_that_end_each_other_at_once_wait_for_nobody(
    client: httpx2.AsyncClient, session: AsyncSession, user: User, sign_in: SignIn
) -> None:
    held = [await sign_in(user) for _ in range(6)]

    answers = await asyncio.gather(*(client.delete("/users/me/sessions", headers=each.access) for each in held))

    assert {answer.status_code for answer in answers} <= {200, 401}
    left = await session.scalar(select(func.count()).select_from(UserSession))
    assert left is not None
    assert left <= 1


async def test_another_password_ends_all_other_sessions(
    client: httpx2.AsyncClient, session: AsyncSession, user: User, sign_in: SignIn
) -> None:
    here, elsewhere = await sign_in(user), await sign_in(user)
    change = {"password": NEW_PASSWORD, "current_password": PASSWORD}

    answer = await client.patch("/users/me", json=change, headers=here.access)

    assert answer.status_code == 200
    assert await is_in(client, here)
    assert not await is_in(client, elsewhere)
    assert (await refresh(client, elsewhere.refresh)).status_code == 401
    assert (await refresh(client, here.refresh)).status_code == 200
    assert set(await ended(session)) == {user.id, elsewhere.session_id}


async def test_who_signs_in_while_the_password_changes_gets_no_session(
    signed_in: httpx2.AsyncClient, serving: Serving, session: AsyncSession, user: User
) -> None:
    """Their password was right when it was checked, and is another one when the session would begin."""
    session.expunge(user)
    await signed_in.patch("/users/me", json={"password": NEW_PASSWORD, "current_password": PASSWORD})

    with pytest.raises(InvalidCredentials):
        await serving(SessionService).open(user, user_agent="", most=100)

    assert await session.scalar(select(func.count()).select_from(UserSession)) == 1


async def test_with_the_account_its_sessions_end(
    client: httpx2.AsyncClient, session: AsyncSession, user: User, other_user: User, sign_in: SignIn
) -> None:
    held = await sign_in(user)

    await client.delete("/users/me", headers=held.access)

    assert not await is_in(client, held)
    assert list(await session.scalars(select(UserSession.user_id))) == [other_user.id]


async def test_sessions_that_have_run_out_are_forgotten(
    client: httpx2.AsyncClient, serving: Serving, session: AsyncSession, user: User, sign_in: SignIn
) -> None:
    old, young = await sign_in(user), await sign_in(user)
    await age(session, old, days=31)

    await serving(SessionService).purge()

    assert await session.get(UserSession, old.session_id, populate_existing=True) is None
    assert await is_in(client, young)


def claims(user: User, **changes: Any) -> dict[str, Any]:
    usual = {"sub": str(user.id), "sid": str(user.id), "jti": str(uuid4()), "aud": AUDIENCE}
    return {
        name: value for name, value in (usual | {"iat": 1, "exp": 32503680000} | changes).items() if value is not None
    }


async def test_every_refusal_of_an_access_token_is_the_same(
    client: httpx2.AsyncClient, settings: Settings, user: User, other_user: User, sign_in: SignIn
) -> None:
    out = await sign_in(user)
    await client.post("/auth/logout", headers=out.access)
    key = settings.jwt_key
    good = jwt.encode(claims(user), key, algorithm=ALGORITHM)
    bad = {
        "no algorithm": jwt.encode(claims(user), None, algorithm="none"),
        "another algorithm": jwt.encode(claims(user), key * 2, algorithm="HS512"),
        "another key": jwt.encode(claims(user), key[::-1], algorithm=ALGORITHM),
        "another audience": jwt.encode(claims(user, aud="hive:refresh"), key, algorithm=ALGORITHM),
        "no expiry": jwt.encode(claims(user, exp=None), key, algorithm=ALGORITHM),
        "run out": jwt.encode(claims(user, exp=2), key, algorithm=ALGORITHM),
        "no session": jwt.encode(claims(user, sid=None), key, algorithm=ALGORITHM),
        "an unknown session": jwt.encode(claims(user, sid=str(uuid4())), key, algorithm=ALGORITHM),
        "a session of somebody else": jwt.encode(claims(user, sid=str(other_user.id)), key, algorithm=ALGORITHM),
        "an ended session": out.access["Authorization"].split()[1],
        "a refresh token": (await sign_in(user)).refresh,
        "an unknown API token": "hive_" + "x" * 43,
        "nothing": "x",
    }

    answers = {
        name: await client.get("/users/me", headers={"Authorization": f"Bearer {token}"}) for name, token in bad.items()
    }

    assert (await client.get("/users/me", headers={"Authorization": f"Bearer {good}"})).status_code == 200
    assert {name for name, answer in answers.items() if answer.status_code != 401} == set()
    assert len({str(without_id(answer)) for answer in answers.values()}) == 1
