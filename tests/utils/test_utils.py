"""Helpers of the tests. Nothing here is a test."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import httpx2
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.models import Event, Task

T = TypeVar("T")

PAUSE = 0.02


def wait_until(condition: Callable[[], T], *, timeout: float = 10, what: str) -> T:
    """The first true answer of `condition`; after `timeout` seconds, an error that says `what` is missing."""
    deadline = time.monotonic() + timeout
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"still waiting after {timeout} s for {what}"
        time.sleep(PAUSE)
    return answer


async def wait_until_async(condition: Callable[[], Awaitable[T]], *, timeout: float = 10, what: str) -> T:
    """`wait_until` for a condition that is asynchronous."""
    deadline = time.monotonic() + timeout
    while not (answer := await condition()):
        assert time.monotonic() < deadline, f"still waiting after {timeout} s for {what}"
        await asyncio.sleep(PAUSE)
    return answer


def problem(answer: httpx2.Response, status: int) -> dict[str, Any]:
    """The problem document of an error answer, which has to be a whole one of this status."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert {"type", "title", "status", "detail", "code", "request_id"} <= set(body)
    assert body["request_id"] == answer.headers["x-request-id"]
    return body


async def events_of(session: AsyncSession, task: Task) -> Sequence[Event]:
    """The events of a task in the order of its versions."""
    return (await session.scalars(select(Event).where(Event.task_id == task.id).order_by(Event.task_version))).all()
