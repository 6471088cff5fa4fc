"""What the log says of requests, sign-ins and accounts: who, from where, and never a secret."""

import json
import logging
from collections.abc import Awaitable, Callable, Iterator
from io import StringIO
from typing import Any

import httpx2
import pytest
import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Environment, Settings
from app.core.logging import configure_logging
from app.core.security import new_secret
from app.models import User
from tests.builders.tokens import create_token
from tests.builders.users import PASSWORD
from tests.conftest import ClientWith, token_of

NEW_PASSWORD = "a password that is new"
Entry = dict[str, Any]
Read = Callable[[], list[Entry]]


@pytest.fixture
def lines(settings: Settings) -> Iterator[Read]:
    """Reads what HIVE has logged since the last time."""
    written = StringIO()
    configure_logging(settings.model_copy(update={"environment": Environment.PRODUCTION, "log_level": "INFO"}), "api")
    [handler] = logging.getLogger().handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(written)

    def read() -> list[Entry]:
        text = written.getvalue()
        written.seek(0)
        written.truncate()
        assert PASSWORD not in text
        assert NEW_PASSWORD not in text
        # The test's own client speaks too.
        return [entry for entry in map(json.loads, text.splitlines()) if entry["logger"].startswith("hive.")]

    yield read
    structlog.contextvars.clear_contextvars()
    configure_logging(settings, "test")


def security(entries: list[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry["logger"] == "hive.security"]


async def test_a_request_has_its_client_and_its_user(
    lines: Read,
    client: httpx2.AsyncClient,
    signed_in: httpx2.AsyncClient,
    client_with: ClientWith,
    session: AsyncSession,
    user: User,
) -> None:
    program = await client_with(await create_token(session, user))
    for caller in (signed_in, client, program, program):
        await caller.get("/tasks")

    entries = [entry for entry in lines() if entry["event"] == "request"]

    assert {entry["client"] for entry in entries} == {"127.0.0.1"}
    assert [entry.get("user_id") for entry in entries] == [str(user.id), None, str(user.id), str(user.id)]


Act = Callable[[httpx2.AsyncClient, httpx2.AsyncClient, User, User], Awaitable[object]]
LINES: dict[str, Act] = {
    "signed in": lambda client, _, __, user: client.post(
        "/auth/login", json={"email": user.email, "password": PASSWORD}
    ),
    "sign-in refused": lambda client, _, __, user: client.post(
        "/auth/login", json={"email": user.email, "password": NEW_PASSWORD}
    ),
    "token made": lambda _, mine, __, ___: mine.post("/users/me/tokens", json={"name": "Report", "scopes": []}),
    "password changed": lambda _, mine, __, ___: mine.patch(
        "/users/me", json={"password": NEW_PASSWORD, "current_password": PASSWORD}
    ),
    "address changed": lambda _, mine, __, ___: mine.patch(
        "/users/me", json={"email": "new@example.org", "current_password": PASSWORD}
    ),
    "account ended": lambda _, mine, __, ___: mine.delete("/users/me"),
}


@pytest.mark.parametrize("line", LINES)
async def test_what_gets_people_in_or_out_has_a_line_of_its_own(
    lines: Read, client: httpx2.AsyncClient, signed_in: httpx2.AsyncClient, admin: User, user: User, line: str
) -> None:
    await LINES[line](client, signed_in, admin, user)

    [entry] = [entry for entry in security(lines()) if entry["event"] == line]
    assert (entry["account_id"], entry["client"]) == (str(user.id), "127.0.0.1")
    assert entry["request_id"]
    assert user.email not in str(entry)


async def test_what_an_admin_does_has_a_line(
    lines: Read, signed_in_admin: httpx2.AsyncClient, admin: User, user: User
) -> None:
    await signed_in_admin.post(f"/admin/users/{user.id}/set-password", json={"password": NEW_PASSWORD})

    [entry] = [entry for entry in security(lines()) if entry["event"] == "admin action"]
    assert (entry["action"], entry["by"], entry["subject_id"]) == ("user.password_set", str(admin.id), str(user.id))
    assert (entry["user_id"], entry["sessions"], entry["tokens"]) == (str(admin.id), 1, 0)


async def test_what_was_rolled_back_has_none(lines: Read, client: httpx2.AsyncClient, user: User) -> None:
    answer = await client.post("/auth/register", json={"email": user.email, "password": PASSWORD})

    assert answer.status_code == 409
    assert security(lines()) == []


async def test_a_refusal_of_somebody_unknown_names_nobody(lines: Read, client: httpx2.AsyncClient) -> None:
    await client.post("/auth/login", json={"email": "nobody@example.org", "password": PASSWORD})

    [entry] = security(lines())
    assert (entry["event"], entry["code"], entry["account_id"]) == ("sign-in refused", "invalid_credentials", None)
    assert "nobody" not in str(entry)


async def test_no_token_in_a_path_is_logged(
    lines: Read, client: httpx2.AsyncClient, settings: Settings, user: User
) -> None:
    secrets = [token_of(user, settings), f"hive_{new_secret()}", new_secret(), new_secret() + new_secret()]
    for secret in secrets:
        for path in (f"/{secret}", f"/tasks/{secret}", f"/calendar/{secret}.ics", f"/tasks/x{secret}/claim"):
            await client.get(path)

    entries = [entry for entry in lines() if entry["event"] == "request"]

    assert len(entries) == 4 * len(secrets)
    assert not [secret for secret in secrets if secret in str(entries)]
    assert not [part for secret in secrets for part in secret.split(".") if part in str(entries)]
