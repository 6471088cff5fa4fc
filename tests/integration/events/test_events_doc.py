"""What docs/events.md says, tried: the table of types against their schemas, and the example against a real system."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
import jsonschema_rs
import pytest

from app.config import Settings
from app.events.types import EVENT_TYPES, EventData
from app.models import EventType, User
from tests.conftest import RunningSystem, token_of
from tests.utils.processes import HiveProcess, answers, free_port
from tests.utils.routes import document
from tests.utils.test_utils import PATIENCE, wait_until, wait_until_async

DOCUMENT = (Path(__file__).resolve().parents[3] / "docs" / "events.md").read_text()
EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FORMATS = {"uuid": "id", "date-time": "time"}


def kind_of(schema: Mapping[str, Any]) -> str:
    """The docs' word for a kind of value."""
    if "anyOf" in schema:
        choices = schema["anyOf"]
        # A vocabulary leaves room for words to come.
        is_vocabulary = any("$ref" in choice for choice in choices)
        return " or ".join(kind_of(each) for each in choices if not (is_vocabulary and each == {"type": "string"}))
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


SCHEMAS = document()["components"]["schemas"]
BASE = {
    "id": "01a2091c-dd6a-77c8-91cd-7176a0d6d481",
    "seq": 18231,
    "timestamp": "2026-11-23T15:53:36.363059Z",
    "actor": {"id": "01a2090e-97ca-776d-b521-7cf61e4ecb8c", "type": "user"},
    "task": {"id": "01a2090f-0c51-7d0e-a3f9-6a0c7e9c1b11", "version": 7},
}


def is_event(event: Mapping[str, Any]) -> bool:
    schema = {"$ref": "#/components/schemas/Envelope", "components": {"schemas": SCHEMAS}}
    return jsonschema_rs.Draft202012Validator(schema).is_valid(event)


def test_each_type_has_its_schema_in_the_document() -> None:
    known = SCHEMAS["KnownEvent"]

    assert known["discriminator"]["propertyName"] == "type"
    assert set(known["discriminator"]["mapping"]) == {event.type.value for event in EVENT_TYPES}
    assert [each["$ref"] for each in known["oneOf"]] == list(known["discriminator"]["mapping"].values())
    assert SCHEMAS["Envelope"]["anyOf"][-1] == {"$ref": "#/components/schemas/OtherEvent"}
    assert SCHEMAS["EventType"]["enum"] == [each.value for each in EventType if not each.is_internal]
    assert not [each.value for each in EventType if each.is_internal and each.value in str(SCHEMAS)]


def test_the_example_of_an_event_has_the_schema_of_its_type() -> None:
    event = json.loads(re.findall(r"^```json\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)[0])

    assert is_event(event)
    assert not is_event(event | {"data": {}})
    assert not is_event(event | {"task": None})


@pytest.mark.parametrize(
    "later",
    [
        {"type": "project.created", "data": {"anything": 1}},
        {"type": "task.deleted", "data": {"title": "Orchids", "restorable": True}},
        {"type": "task.unassigned", "data": {"previous_assignee_id": "x", "old_status": "new", "new_status": "newer"}},
        {"type": "task.ready", "data": {}, "project": "OPS"},
    ],
    ids=["type", "data", "status", "field"],
)
def test_the_document_has_room_for_what_later_versions_tell(later: dict[str, Any]) -> None:
    assert is_event(BASE | later)


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
    async with httpx2.AsyncClient(base_url=running_system.address, headers=headers, timeout=PATIENCE) as http:
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
