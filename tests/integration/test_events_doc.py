"""What docs/events.md says, tried: the table of types against their schemas, and the example against a real system."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.config import Settings
from app.events.types import EVENT_TYPES, EventData
from app.models import User
from tests.conftest import RunningSystem, token_of
from tests.utils.processes import HiveProcess, answers, free_port
from tests.utils.test_utils import wait_until, wait_until_async

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "events.md").read_text()
EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FORMATS = {"uuid": "id", "date-time": "time"}


def kind_of(schema: Mapping[str, Any]) -> str:
    """The docs' word for a kind of value."""
    if "anyOf" in schema:
        return " or ".join(kind_of(choice) for choice in schema["anyOf"])
    if "$ref" in schema:
        name: str = schema["$ref"].rpartition("/")[2]
        return re.sub(r"(?<!^)(?=[A-Z])", " ", name).lower()
    if schema.get("type") == "array":
        return f"list of {kind_of(schema['items'])}s"
    return str(FORMATS.get(schema.get("format", ""), schema.get("type", "any")))


def fields_of(event: type[EventData]) -> str:
    schema = event.model_json_schema()
    return ", ".join(f"`{name}` {kind_of(field)}" for name, field in schema["properties"].items())


def test_the_table_of_types_says_what_the_schemas_say() -> None:
    rows = re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \| .* \| (.*) \|$", DOCUMENT, re.MULTILINE)

    assert dict(rows) == {event.type.value: fields_of(event) for event in EVENT_TYPES}


@pytest.fixture
def example(tmp_path: Path) -> Path:
    [code] = EXAMPLE.findall(DOCUMENT)
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 40
    path = tmp_path / "follow.py"
    path.write_text(code)
    return path


@pytest.mark.committed
async def test_the_example_loses_nothing_when_its_server_is_killed(
    example: Path, running_system: RunningSystem, hive_environment: dict[str, str], settings: Settings, user: User
) -> None:
    token = token_of(user, settings)
    port = free_port()
    api = HiveProcess(["-m", "app.cli", "api"], hive_environment | {"PORT": str(port)})
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(base_url=running_system.address, headers=headers) as http:
        start = (await http.get("/events")).json()["head"]
        environment = hive_environment | {"HIVE": f"127.0.0.1:{port}", "TOKEN": token}

        with HiveProcess([str(example)], environment) as follower:
            with api:
                wait_until(lambda: answers(f"http://127.0.0.1:{port}/health", api), what="the API")
                follower.wait_for_output("0 tasks at")
                await make_tasks(http, 5)
                follower.wait_for_output("task.created 5 tasks")
                api.kill()
            await make_tasks(http, 5)
            with HiveProcess(["-m", "app.cli", "api"], hive_environment | {"PORT": str(port)}):
                follower.wait_for_output("task.created 10 tasks")
                expected = await seqs_after(http, start)
                assert seqs_in(follower.output) == expected


async def make_tasks(http: httpx2.AsyncClient, count: int) -> None:
    for number in range(count):
        answer = await http.post("/tasks", json={"title": f"Row {number}", "status": "available"})
        assert answer.status_code == 201


async def seqs_after(http: httpx2.AsyncClient, start: int) -> list[int]:
    async def all_ten() -> list[int]:
        page = (await http.get(f"/events?after={start}")).json()
        return [event["seq"] for event in page["events"]] if len(page["events"]) == 10 else []

    return await wait_until_async(all_ten, what="ten events")


def seqs_in(output: str) -> list[int]:
    return [int(seq) for seq in re.findall(r"^(\d+) task\.created", output, re.MULTILINE)]
