"""Refused bodies are freed with their answer, and not only when Python collects what holds itself."""

import gc
import tracemalloc
from collections.abc import Iterator
from uuid import uuid4

import httpx2
import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app.models import User
from tests.builders.tasks import create_task

JSON = {"Content-Type": "application/json"}
LARGE = 900_000
REQUESTS = 10


def padded(content: bytes) -> bytes:
    return content + b" " * LARGE


@pytest.fixture
def traced() -> Iterator[None]:
    gc.collect()
    gc.disable()
    tracemalloc.start()
    yield
    tracemalloc.stop()
    gc.enable()


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize(
    ("method", "path", "content", "headers", "status"),
    [
        ("POST", "/auth/login", b'"\\' * (LARGE // 2), {}, 422),
        ("POST", "/auth/login", padded(b"[1,2"), {}, 422),
        ("POST", "/tasks", padded(b'{"title": "A"}'), {"Authorization": "Bearer junk"}, 401),
        ("POST", "/tasks", padded(b'{"title": '), {}, 422),
        ("POST", "/tasks", b'{"title": ' + b"9" * LARGE + b"}", {}, 422),
        ("POST", "/tasks", b'{"title": "A", "other": "' + b"x" * LARGE + b'"}', {}, 422),
        ("POST", "/tasks", padded(b'{"title": "A\x00"}'), {}, 422),
        ("POST", "/tasks", b"[" + b"1," * (LARGE // 2) + b"1]", {}, 422),
        ("POST", "/tasks/batch", padded(b'{"mode": "atomic", "items": [{"op": "none"}]}'), {}, 422),
        ("PATCH", "/tasks/{nothing}", padded(b'{"title": "A"}'), {}, 404),
        ("PATCH", "/tasks/{task}", padded(b'{"title": "A"}'), {"If-Match": '"9"'}, 412),
        ("PUT", "/tasks/{task}/status", padded(b'{"status": "completed"}'), {}, 409),
        ("PUT", "/tasks/{task}/status", padded(b'{"status": "completed"}'), {"Idempotency-Key": "once"}, 409),
        ("POST", "/admin/users/{task}/set-password", padded(b'{"password": "correct horse"}'), {}, 403),
    ],
)
async def test_a_refused_body_is_freed_with_its_answer(
    signed_in: httpx2.AsyncClient,
    session: AsyncSession,
    user: User,
    method: str,
    path: str,
    content: bytes,
    headers: dict[str, str],
    status: int,
) -> None:
    task = await create_task(session, owner=user)
    path = path.format(task=task.id, nothing=uuid4())

    async def refused() -> int:
        answer = await signed_in.request(method, path, content=content, headers=JSON | headers)
        return answer.status_code

    # What is made at the first use of a route stays.
    assert await refused() == status
    before = tracemalloc.get_traced_memory()[0]
    assert {await refused() for _ in range(REQUESTS)} == {status}
    # One may be held yet, in four forms, by what ends after its answer. A leak would hold each of them.
    assert tracemalloc.get_traced_memory()[0] - before < REQUESTS * LARGE / 2
