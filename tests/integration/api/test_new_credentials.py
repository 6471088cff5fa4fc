"""What was opened with an old password or address doesn't outlive it unless asked to, and its owner is told."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.core.security import issue_token
from app.database import Database
from app.mail.mailer import MailDelayed, MailRefused, MailUncertain, NoMailer
from app.mail.message import Mail
from app.models import ApiToken, EventTicket, Job, JobName, User, UserSession
from app.services.account_mail import send_account_mail
from app.services.job_service import Hopeless, OutcomeUnknown
from tests.builders.agents import create_agent
from tests.builders.tokens import create_token
from tests.builders.users import PASSWORD
from tests.conftest import ClientWith
from tests.utils.test_utils import problem, wait_for_lock_waiter, wait_for_two_lock_waiters

PASSWORD_CHANGE = {"password": "an even longer password"}
ADDRESS_CHANGE = {"email": "new@example.org"}
LIFETIME = timedelta(minutes=5)
CHANGES = [PASSWORD_CHANGE, ADDRESS_CHANGE, PASSWORD_CHANGE | ADDRESS_CHANGE]


@pytest.fixture
async def others(session: AsyncSession, user: User, other_user: User) -> list[str]:
    """A second session of the user, tokens of them, of their agent and of somebody else; the tokens' texts."""
    agent = await create_agent(session, owner=user)
    tokens = [await create_token(session, account) for account in (user, agent, other_user)]
    session.add(
        UserSession(
            user_id=user.id,
            family_hash="other",
            current_hash="",
            expires_at=func.now() + func.make_interval(0, 0, 0, 1),
        )
    )
    await session.commit()
    return tokens


async def left(session: AsyncSession, user: User) -> tuple[int, int]:
    own = select(User.id).where((User.id == user.id) | (User.owner_id == user.id))
    sessions, tokens = [
        await session.scalar(select(func.count()).select_from(table).where(table.user_id.in_(own))) or 0
        for table in (UserSession, ApiToken)
    ]
    return sessions, tokens


async def mails(session: AsyncSession) -> Sequence[Any]:
    asked = select(Job.arguments["address"].astext).where(Job.name == JobName.SEND_ACCOUNT_MAIL)
    return (await session.scalars(asked)).all()


@pytest.mark.parametrize("change", CHANGES)
async def test_all_that_was_made_before_ends(
    signed_in: httpx2.AsyncClient,
    client_with: ClientWith,
    session: AsyncSession,
    user: User,
    others: list[str],
    change: dict[str, str],
) -> None:
    own, of_agent, of_other = [await client_with(token) for token in others]
    assert (await own.post("/events/ticket")).status_code == 200

    answer = await signed_in.patch("/users/me", json=change | {"current_password": PASSWORD})

    assert answer.status_code == 200, answer.text
    assert await left(session, user) == (1, 0)
    statuses = [(await program.get("/tasks")).status_code for program in (own, of_agent, of_other)]
    assert statuses == [401, 401, 200]
    assert await session.scalar(select(func.count()).select_from(EventTicket)) == 0
    assert (await signed_in.get("/users/me")).status_code == 200


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("kept", "expected"), [("keep_sessions", (2, 0)), ("keep_tokens", (1, 2))])
async def test_what_is_asked_to_stay_stays(
    signed_in: httpx2.AsyncClient,
    session: AsyncSession,
    user: User,
    others: list[str],
    change: dict[str, str],
    kept: str,
    expected: tuple[int, int],
) -> None:
    assert others
    answer = await signed_in.put("/users/me", json=change | {"current_password": PASSWORD, kept: True})

    assert answer.status_code == 200, answer.text
    assert await left(session, user) == expected


@pytest.mark.parametrize("change", [{"display_name": "Countess"}, {"email": "same"}, {"email": "SAME"}])
async def test_what_is_no_new_credential_ends_nothing(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, others: list[str], change: dict[str, str]
) -> None:
    assert others
    spelled = {"same": user.email, "SAME": user.email.upper()}
    change = {name: spelled.get(value, value) for name, value in change.items()}

    answer = await signed_in.patch("/users/me", json=change | {"current_password": PASSWORD})

    assert answer.status_code == 200, answer.text
    assert await left(session, user) == (2, 2)
    assert await mails(session) == []


async def test_the_old_address_is_told_once_a_day(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User
) -> None:
    old = user.email
    for address in ("new@example.org", old, "third@example.org"):
        change = {"email": address, "current_password": PASSWORD}
        assert (await signed_in.patch("/users/me", json=change)).status_code == 200
        # An address that was never confirmed may be a stranger's, and isn't told.
        await session.execute(update(User).where(User.id == user.id).values(email_confirmed_at=func.now()))
        await session.commit()

    assert sorted(await mails(session)) == sorted([old, "new@example.org"])
    stored = (await session.scalars(select(Job.unique_key).where(Job.name == JobName.SEND_ACCOUNT_MAIL))).all()
    assert not [key for key in stored if "@" in str(key)]


@pytest.mark.committed
@pytest.mark.parametrize("path", ["/users/me/tokens", "/agents", "/agents/{agent}/tokens"])
async def test_a_session_that_ends_meanwhile_leaves_no_token_and_no_agent(
    signed_in: httpx2.AsyncClient,
    client_with: ClientWith,
    session: AsyncSession,
    database: Database,
    settings: Settings,
    user: User,
    path: str,
) -> None:
    agent = await create_agent(session, owner=user)
    stolen = UserSession(user_id=user.id, family_hash="stolen", current_hash="", expires_at=func.now() + LIFETIME)
    session.add(stolen)
    await session.commit()
    thief = await client_with(issue_token(user.id, stolen.id, key=settings.jwt_key, lifetime=LIFETIME))
    wanted = {"scopes": ["tasks:read"]} | ({"display_name": "Mole"} if path == "/agents" else {"name": "Mole"})

    async with database.unit_of_work() as holder:
        await holder.get_locked(User, user.id)
        change = PASSWORD_CHANGE | {"current_password": PASSWORD}
        changing = asyncio.create_task(signed_in.patch("/users/me", json=change))
        await wait_for_lock_waiter(session)
        making = asyncio.create_task(thief.post(path.format(agent=agent.id), json=wanted))
        await wait_for_two_lock_waiters(session)

    assert (await changing).status_code == 200
    assert problem(await making, 401)["code"] == "unauthorized"
    assert await left(session, user) == (1, 0)
    assert (await session.scalars(select(User.id).where(User.owner_id == user.id))).all() == [agent.id]


class FakeMailer:
    def __init__(self, fault: Exception | None = None) -> None:
        self.sent: list[Mail] = []
        self._fault = fault

    async def send(self, mail: Mail) -> None:
        if self._fault:
            raise self._fault
        self.sent.append(mail)


async def test_the_mail_names_nobody_and_not_the_new_address(settings: Settings) -> None:
    mailer, mail_id = FakeMailer(), uuid4()

    await send_account_mail(settings, mailer, address="old@example.org", mail_id=mail_id)
    await send_account_mail(settings, NoMailer(), address="old@example.org", mail_id=mail_id)

    [mail] = mailer.sent
    assert (mail.to, mail.message_id) == ("old@example.org", f"<account.{mail_id}@hive.invalid>")
    for text in (mail.text, mail.html):
        assert text.count("@") == 1
        assert "old@example.org" in text
        assert "Ada" not in text


@pytest.mark.parametrize(
    ("fault", "raised"), [(MailRefused(), Hopeless), (MailUncertain(), OutcomeUnknown), (MailDelayed(), MailDelayed)]
)
async def test_a_mail_that_fails_fails_its_job(settings: Settings, fault: Exception, raised: type[Exception]) -> None:
    with pytest.raises(raised):
        await send_account_mail(settings, FakeMailer(fault), address="old@example.org", mail_id=uuid4())
