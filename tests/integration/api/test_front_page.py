"""The page at the root: for people, complete in itself, and strict about what it loads."""

import base64
import hashlib
import re

import httpx2
import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import ServiceUnavailable
from app.models import TaskStatus, User
from app.reads.dashboard_reads import DashboardReads
from tests.builders.tasks import create_task

ROOT = "http://hive.test/"


# The checks of readiness run at once, each on a connection of its own.
@pytest.mark.committed
async def test_page_tells_health_and_counts(client: httpx2.AsyncClient, session: AsyncSession, user: User) -> None:
    for status in (TaskStatus.COMPLETED, TaskStatus.DRAFT):
        await create_task(session, owner=user, status=status, title="Nobody's business")

    answer = await client.get(ROOT, headers={"Accept": "text/html,*/*;q=0.8"})

    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    counts = dict(re.findall(r"<dt>(\w+)</dt><dd>([\d,]+)</dd>", answer.text))
    assert counts == {"tasks": "2", "completed": "1", "accounts": "1", "online": "0"}
    assert re.search(r'class="state (well|unwell)">[A-Z]', answer.text)
    assert "Nobody" not in answer.text


@pytest.mark.committed
@pytest.mark.parametrize("authorization", [{}, {"Authorization": "Bearer nonsense"}])
async def test_page_is_for_anyone(
    client: httpx2.AsyncClient, signed_in: httpx2.AsyncClient, authorization: dict[str, str]
) -> None:
    answers = [await client.get(ROOT, headers=authorization), await signed_in.get(ROOT), await client.head(ROOT)]

    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert answers[2].content == b""


@pytest.mark.committed
async def test_page_loads_nothing_and_links_relatively(client: httpx2.AsyncClient) -> None:
    answer = await client.get(ROOT)

    policy = answer.headers["content-security-policy"]
    [style] = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "<script" not in answer.text
    links = re.findall(r'(?:href|src)="([^"]*)"', answer.text)
    assert links == ["docs", "openapi.json", "health/ready"]
    assert (await client.get(f"{ROOT}docs")).status_code == 200


@pytest.mark.committed
async def test_page_is_there_when_nothing_can_be_counted(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise ServiceUnavailable("The database can't be reached.")

    monkeypatch.setattr(DashboardReads, "summarize", fail)

    answer = await client.get(ROOT)

    assert answer.status_code == 200
    assert "<dl></dl>" in answer.text


async def test_programs_are_told_the_addresses(client: httpx2.AsyncClient) -> None:
    answer = await client.get(ROOT, headers={"Accept": "application/json"})

    assert answer.json()["docs"] == "docs"
    assert "Accept" in answer.headers["vary"]
