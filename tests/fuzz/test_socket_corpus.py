"""Hostile input in every field of every message to a socket: an answer, and the socket stays open."""

import json
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.models import Event, EventType, User
from tests.conftest import token_of
from tests.fuzz.corpus import JSON_VALUES
from tests.utils.test_utils import FakeNetwork, wait_until_async

LARGEST = 64 * 1024
PLACES = {
    "a message": "{}",
    "a type": '{{"type": {}, "data": {{}}}}',
    "the data of a ping": '{{"type": "ping", "data": {}}}',
    "the data of a chat message": '{{"type": "chat.message", "data": {}}}',
    "a chat message": '{{"type": "chat.message", "data": {{"message": {}}}}}',
}


def messages(template: str) -> dict[str, str]:
    """The corpus in that place, but for what is too large for any message."""
    written = {name: template.format(value) for name, value in JSON_VALUES.items()}
    return {name: message for name, message in written.items() if len(message.encode()) <= LARGEST}


@pytest.mark.parametrize("place", PLACES)
async def test_no_message_is_a_fault(
    app: FastAPI, session: AsyncSession, user: User, settings: Settings, place: str
) -> None:
    sent = messages(PLACES[place])
    assert len(sent) > 50

    async with FakeNetwork(query=f"token={token_of(user, settings)}").talk_to(app) as network:
        for name, message in sent.items():
            network.say(message)
            network.say(json.dumps({"type": "ping", "data": {"after": name}}))

        answers = await answers_until(network, {"after": name})
    said = await session.scalar(select(func.count()).select_from(Event).where(Event.type == EventType.CHAT_MESSAGE))
    pongs = [each["data"] for each in answers if each["type"] == "pong"]
    errors = [each["data"]["code"] for each in answers if each["type"] == "error"]
    assert [each for each in pongs if each in [{"after": name} for name in sent]] == [{"after": name} for name in sent]
    assert set(errors) <= {"invalid_message"}
    # Every message has had its one effect: it was refused, echoed or said.
    assert len(errors) + (len(pongs) - len(sent)) + (said or 0) == len(sent)


async def answers_until(network: FakeNetwork, data: object) -> list[dict[str, Any]]:
    """All that was answered up to the `pong` with this data."""

    async def has_come() -> list[dict[str, Any]]:
        answers = [json.loads(text) for text in network.texts]
        return answers if {"type": "pong", "data": data} in answers else []

    return await wait_until_async(has_come, what="the last answer on a socket")
