"""A client that openapi-python-client makes of the document, against a running HIVE: it changes what it's told to."""

import asyncio
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx2
import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.models import TaskPriority, User
from tests.builders.tasks import create_task
from tests.conftest import RunningSystem, token_of
from tests.utils.test_utils import PATIENCE, events_of

GENERATOR = Path(__file__).resolve().parents[3] / ".client-generator" / "bin"
# It runs with the generator's packages, for the client needs httpx and attrs. Each answer is read by the client, too.
PROGRAM = """
import os
import sys

from httpx import Timeout
from made import AuthenticatedClient
from made.api.tasks import create_task, list_tasks, put_task, update_task
from made.api.users import get_me, update_me
from made.models import TaskCreate, TaskResponse, TaskUpdate, UserResponse, UserUpdate

client = AuthenticatedClient(
    base_url=os.environ["HIVE"],
    token=os.environ["TOKEN"],
    timeout=Timeout(float(os.environ["PATIENCE"])),
    raise_on_unexpected_status=True,
)
with client:
    changed = update_task.sync(sys.argv[1], client=client, body=TaskUpdate(title="Roses"))
    assert isinstance(changed, TaskResponse), changed
    assert changed.title == "Roses", changed
    replaced = put_task.sync(sys.argv[1], client=client, body=TaskUpdate(description=None))
    assert isinstance(replaced, TaskResponse), replaced
    assert (replaced.description, replaced.title) == ("", "Roses"), replaced
    made = create_task.sync(client=client, body=TaskCreate(title="Tulips"))
    assert isinstance(made, TaskResponse), made
    assert made.category == "general", made
    assert made in list_tasks.sync(client=client, limit=200)
    account = update_me.sync(client=client, body=UserUpdate(role="Gardener"))
    assert isinstance(account, UserResponse), account
    assert account == get_me.sync(client=client)
"""


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def program(running_system: RunningSystem, tmp_path: Path) -> Path:
    """The client as a package, with a program beside it that calls it."""
    if not GENERATOR.exists():
        pytest.skip("openapi-python-client is not installed; `make test` brings it")
    configuration = tmp_path / "configuration.yml"
    # The client is run and not read, so nothing has to be brought into form.
    configuration.write_text("post_hooks: []\n")
    document = tmp_path / "openapi.json"
    address = running_system.address.removesuffix("/api/v1") + "/openapi.json"
    document.write_bytes(httpx2.get(address, timeout=PATIENCE).raise_for_status().content)
    options = ["--meta=none", f"--output-path={tmp_path / 'made'}", f"--config={configuration}", "--fail-on-warning"]
    command = [str(GENERATOR / "openapi-python-client"), "generate", f"--path={document}", *options]
    ended = run(command)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


@pytest.mark.committed
async def test_a_generated_client_changes_what_it_names_and_no_more(
    program: Path, running_system: RunningSystem, session: AsyncSession, settings: Settings, user: User
) -> None:
    filled = {"description": "Two", "category": "greenhouse", "impact_points": 3, "priority": TaskPriority.HIGH}
    task = await create_task(session, owner=user, title="Orchids", **filled)  # type: ignore[arg-type]
    user.skills, user.mail_notifications, name, address = ["watering"], False, user.display_name, user.email
    await session.commit()

    served_at = running_system.address.removesuffix("/api/v1")
    environment = {"HIVE": served_at, "TOKEN": token_of(user, settings), "PATIENCE": str(PATIENCE)}
    command = [str(GENERATOR / "python"), str(program), str(task.id)]
    ended = await asyncio.to_thread(run, command, environment)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    await session.refresh(task)
    assert (task.title, task.description, task.version) == ("Roses", "", 3)
    assert (task.category, task.impact_points, task.priority) == ("greenhouse", 3, TaskPriority.HIGH)
    assert [event.data for event in await events_of(session, task)] == [
        {"changed": {"title": "Roses"}},
        {"changed": {"description": ""}},
    ]
    await session.refresh(user)
    assert (user.role, user.skills, user.mail_notifications) == ("Gardener", ["watering"], False)
    assert (user.display_name, user.email) == (name, address)
