"""What other programs meet before they make their first call: the OpenAPI document, `/docs`, and CORS."""

import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from app.config import Environment, Settings
from app.database import Database
from app.main import build_state, create_app
from tests.utils.test_utils import problem

HERE = "http://hive.test"
ORIGIN = "https://board.example.org"
OTHER_THAN_JSON = {"/api/v1/events/stream": "text/event-stream", "/metrics": "text/plain"}
ON_EVERY_ROUTE = {"413", "415", "422", "500", "503"}


@pytest.fixture(scope="module")
def document(routes_app: FastAPI) -> dict[str, Any]:
    return routes_app.openapi()


def operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


async def test_the_document_is_openapi_3_1(client: httpx2.AsyncClient, document: dict[str, Any]) -> None:
    answer = await client.get(f"{HERE}/openapi.json")

    assert answer.status_code == 200
    assert answer.json()["openapi"].startswith("3.1.")
    assert answer.json() == document


def test_every_operation_declares_the_errors_that_any_of_them_can_give(document: dict[str, Any]) -> None:
    for _, path, operation in operations(document):
        assert set(operation["responses"]) >= ON_EVERY_ROUTE, path


def test_an_operation_that_needs_a_token_declares_its_lack(document: dict[str, Any]) -> None:
    secured = {path for _, path, operation in operations(document) if "security" in operation}

    assert "/api/v1/tasks" in secured
    for _, path, operation in operations(document):
        is_sign_in = path.endswith(("/auth/login", "/auth/token", "/auth/refresh"))
        assert ("401" in operation["responses"]) == ("security" in operation or is_sign_in), path


def test_an_operation_on_one_thing_declares_that_it_may_not_be_there(document: dict[str, Any]) -> None:
    for _, path, operation in operations(document):
        if "{" in path:
            assert "404" in operation["responses"], path


def test_no_parameter_is_null_for_no_address_and_no_header_has_a_null(document: dict[str, Any]) -> None:
    parameters = [each for _, _, operation in operations(document) for each in operation.get("parameters", [])]

    assert [each["name"] for each in parameters if "anyOf" in each["schema"]]
    assert not [each for each in parameters if {"type": "null"} in each["schema"].get("anyOf", [each["schema"]])]


def test_every_vocabulary_of_an_answer_has_room_for_later_words(document: dict[str, Any]) -> None:
    """Generated clients break at a word that they don't know, unless the document says that there may be some."""
    answers = [
        content["schema"]
        for _, _, operation in operations(document)
        for status, answer in operation["responses"].items()
        if status.startswith("2")
        for media_type, content in answer.get("content", {}).items()
        if media_type == "application/json"
    ]
    told = list(vocabularies_in(answers, document, seen=set()))

    assert ["draft", "available", "in_progress", "completed"] in [words for words, _ in told]
    assert [words for words, is_open in told if not is_open] == []


def vocabularies_in(
    part: Any, document: dict[str, Any], *, seen: set[tuple[str, bool]], is_open: bool = False
) -> Iterator[tuple[list[str], bool]]:
    """The words of each vocabulary in a schema, and whether there may be others."""
    if isinstance(part, list):
        for each in part:
            yield from vocabularies_in(each, document, seen=seen, is_open=is_open)
    elif isinstance(part, dict):
        if "enum" in part:
            yield part["enum"], is_open
        name = part.get("$ref", "").rpartition("/")[2]
        if name and (name, is_open) not in seen:
            seen.add((name, is_open))
            yield from vocabularies_in(document["components"]["schemas"][name], document, seen=seen, is_open=is_open)
        has_room = {"type": "string"} in part.get("anyOf", [])
        for key, inner in part.items():
            if key not in {"enum", "not", "example", "examples"}:
                yield from vocabularies_in(inner, document, seen=seen, is_open=has_room and key == "anyOf")


def test_an_operation_that_takes_a_lease_token_declares_that_the_lease_may_be_lost(document: dict[str, Any]) -> None:
    answers = {
        (method, path): operation["responses"]
        for method, path, operation in operations(document)
        if "hive-lease-token" in {each["name"] for each in operation.get("parameters", [])}
    }

    assert ("patch", "/api/v1/tasks/{task_id}") in answers
    assert [operation for operation, told in answers.items() if "409" not in told] == []


def test_every_error_has_the_schema_of_a_problem(document: dict[str, Any]) -> None:
    for _, path, operation in operations(document):
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                [(kind, content)] = response["content"].items()
                assert kind == "application/problem+json", (path, status)
                assert content["schema"] == {"$ref": "#/components/schemas/Problem"}, (path, status)


def test_every_success_has_a_schema(document: dict[str, Any]) -> None:
    for _, path, operation in operations(document):
        [response] = [response for status, response in operation["responses"].items() if int(status) in {200, 201, 202}]
        [content] = response["content"].items()
        assert content[0] == OTHER_THAN_JSON.get(path, "application/json"), path
        assert content[1]["schema"], path


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    text = str(document)

    for reference in set(re.findall(r"#/components/schemas/(\w+)", text)):
        assert reference in document["components"]["schemas"]
    assert "HTTPValidationError" not in text


def test_operations_have_names_that_clients_can_use(document: dict[str, Any]) -> None:
    names = {(method, path): operation["operationId"] for method, path, operation in operations(document)}

    assert len(set(names.values())) == len(names)
    assert not [name for name in names.values() if not re.fullmatch(r"[a-z]+(_[a-z]+)*", name) or "api_v1" in name]
    assert names["patch", "/api/v1/tasks/{task_id}"] == "update_task"
    assert names["put", "/api/v1/tasks/{task_id}"] == "put_task"
    assert names["get", "/api/v1/health"] == "get_health"


@pytest.mark.parametrize(
    ("method", "path", "status", "names"),
    [
        ("get", "/tasks", "200", {"Hive-Seq", "Hive-Epoch", "Link", "RateLimit", "RateLimit-Policy", "X-Request-ID"}),
        ("post", "/tasks", "201", {"ETag", "Location", "Idempotency-Replayed"}),
        ("get", "/tasks/{task_id}", "304", {"ETag"}),
        ("patch", "/tasks/{task_id}", "412", {"ETag"}),
        ("patch", "/tasks/{task_id}", "429", {"Retry-After", "RateLimit"}),
        ("get", "/users/me", "200", {"ETag"}),
        ("get", "/users/me", "401", {"WWW-Authenticate"}),
        ("post", "/users/me/tokens", "201", {"Location", "Cache-Control"}),
        ("get", "/events/stream", "200", {"Cache-Control", "X-Accel-Buffering"}),
        ("get", "/health", "200", {"X-Request-ID"}),
    ],
)
def test_answers_are_described_with_their_headers(
    document: dict[str, Any], method: str, path: str, status: str, names: set[str]
) -> None:
    headers = document["paths"][f"/api/v1{path}"][method]["responses"][status]["headers"]

    assert set(headers) >= names
    assert ("RateLimit" in headers) == (path != "/health")
    assert {each["$ref"] for each in headers.values()} == {f"#/components/headers/{name}" for name in headers}
    assert set(headers) <= set(document["components"]["headers"])


def test_bodies_say_that_they_take_nothing_unknown(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]

    for name in (
        "UserRegister",
        "Login",
        "Refresh",
        "ApiTokenCreate",
        "AgentCreate",
        "UserUpdate",
        "TaskCreate",
        "TaskUpdate",
        "TaskAssign",
        "TaskStatusUpdate",
    ):
        assert schemas[name]["additionalProperties"] is False, name


def defaults_in(document: Mapping[str, Any], schema: Any, seen: frozenset[str] = frozenset()) -> Iterator[Any]:
    """Every default in a schema, and in those that it refers to."""
    parts: list[Any] = schema if isinstance(schema, list) else []
    if isinstance(schema, dict):
        if "default" in schema:
            yield schema["default"]
        if (reference := schema.get("$ref")) and reference not in seen:
            seen |= {reference}
            parts = [document["components"]["schemas"][reference.rpartition("/")[2]]]
        parts += [*schema.get("properties", {}).values(), *(schema[name] for name in schema.keys() - {"properties"})]
    for part in parts:
        yield from defaults_in(document, part, seen)


def test_no_body_has_a_default_which_clients_would_send(document: dict[str, Any]) -> None:
    bodies = {
        f"{method} {path}": content["schema"]
        for method, path, operation in operations(document)
        for kind, content in operation.get("requestBody", {}).get("content", {}).items()
        if kind == "application/json"
    }

    assert {"patch /api/v1/tasks/{task_id}", "put /api/v1/users/me", "post /api/v1/tasks"} <= set(bodies)
    assert {name: found for name, schema in bodies.items() if (found := list(defaults_in(document, schema)))} == {}


def test_what_is_always_sent_is_required(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    sent = {
        name: set(schema["properties"]) - set(schema.get("required", []))
        for name, schema in schemas.items()
        # Bodies take nothing unknown, but for the form of OAuth.
        if "properties" in schema and schema.get("additionalProperties") is not False and name != "TokenForm"
    }

    assert {"TaskResponse", "UserResponse", "TokenResponse", "TaskDeletedResponse"} <= set(sent)
    assert {name for name, optional in sent.items() if optional} == {"Problem"}


def test_the_token_is_got_from_the_form(document: dict[str, Any]) -> None:
    [scheme] = document["components"]["securitySchemes"].values()

    flow = scheme["flows"]["password"]
    assert (flow["tokenUrl"], flow["refreshUrl"]) == ("/api/v1/auth/token", "/api/v1/auth/token")


async def test_docs_work_without_any_other_host(client: httpx2.AsyncClient) -> None:
    page = await client.get(f"{HERE}/docs")

    assert page.headers["content-type"].startswith("text/html")
    assert re.findall(r"(?:https?:)?//[\w.-]+", page.text) == []
    addresses = set(re.findall(r"(?:src|href)=\"([^\"]+)\"|url: '([^']+)'", page.text))
    found = {one or other for one, other in addresses}
    assert len(found) == 4
    for address in found:
        answer = await client.get(f"{HERE}{address}")
        assert answer.status_code == 200, address
        assert len(answer.content) > 500


async def test_the_assets_of_the_docs_are_what_they_say(client: httpx2.AsyncClient) -> None:
    for name, kind in (
        ("swagger-ui-bundle.js", "text/javascript"),
        ("swagger-ui.css", "text/css"),
        ("favicon-32x32.png", "image/png"),
    ):
        answer = await client.get(f"{HERE}/docs/assets/{name}")
        assert answer.headers["content-type"].startswith(kind)


@pytest.fixture
async def page_of(settings: Settings, database: Database, redis_url: str) -> AsyncIterator[FastAPI]:
    """An application that lets the pages of one other origin in."""
    app = create_app(settings.model_copy(update={"cors_origins": (ORIGIN,)}))
    app.state.hive = build_state(settings, database, redis_url=redis_url)
    yield app
    await app.state.hive.redis.aclose()


@pytest.fixture
async def page(page_of: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(page_of), base_url=f"{HERE}/api/v1") as client:
        yield client


def preflight(origin: str) -> dict[str, str]:
    return {
        "Origin": origin,
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "authorization, content-type, if-match",
    }


@pytest.mark.parametrize("environment", [Environment.DEVELOPMENT, Environment.TEST])
async def test_a_page_of_this_machine_may_call_in_development(settings: Settings, environment: Environment) -> None:
    app = create_app(settings.model_copy(update={"environment": environment}))
    local = "http://localhost:5173"
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=HERE) as client:
        answers = [await client.get("/health", headers={"Origin": origin}) for origin in (local, "http://evil.example")]

    allowed = [answer.headers.get("Access-Control-Allow-Origin") for answer in answers]
    assert allowed == [local if environment is Environment.DEVELOPMENT else None, None]


async def test_a_configured_origin_may_call(page: httpx2.AsyncClient) -> None:
    asked = await page.options("/tasks", headers=preflight(ORIGIN))
    answer = await page.get("/dashboard/summary", headers={"Origin": ORIGIN})

    assert asked.status_code == 200
    assert asked.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "PATCH" in asked.headers["Access-Control-Allow-Methods"]
    assert {"authorization", "if-match"} <= set(asked.headers["Access-Control-Allow-Headers"].lower().split(", "))
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert {"Link", "Location", "ETag", "Retry-After", "X-Request-ID"} <= set(
        answer.headers["Access-Control-Expose-Headers"].split(", ")
    )
    assert "Access-Control-Allow-Credentials" not in answer.headers


async def test_a_configured_origin_can_read_errors_too(page: httpx2.AsyncClient) -> None:
    for answer in (
        await page.get("/tasks", headers={"Origin": ORIGIN}),
        await page.get("/nothing", headers={"Origin": ORIGIN}),
        await page.post("/tasks", content=b"x" * (1024 * 1024 + 1), headers={"Origin": ORIGIN}),
    ):
        problem(answer, answer.status_code)
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN


async def test_a_fault_of_ours_can_be_read_by_a_configured_origin(page_of: FastAPI, page: httpx2.AsyncClient) -> None:
    async def fail() -> None:
        raise LookupError

    page_of.add_api_route("/api/v1/broken", fail)

    answer = await page.get("/broken", headers={"Origin": ORIGIN})

    problem(answer, 500)
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN


@pytest.mark.parametrize(
    "origin", ["https://evil.example.org", "null", f"{ORIGIN}.evil.example", "http://board.example.org"]
)
async def test_another_origin_may_not(page: httpx2.AsyncClient, origin: str) -> None:
    asked = await page.options("/tasks", headers=preflight(origin))
    answer = await page.get("/dashboard/summary", headers={"Origin": origin})

    assert "Access-Control-Allow-Origin" not in asked.headers
    assert "Access-Control-Allow-Origin" not in answer.headers


async def test_no_origin_may_unless_one_is_configured(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/dashboard/summary", headers={"Origin": ORIGIN})

    assert "Access-Control-Allow-Origin" not in answer.headers


async def test_what_is_named_twice_in_a_set_is_taken_once_and_the_document_says_nothing_else(
    signed_in: httpx2.AsyncClient, document: dict[str, Any]
) -> None:
    twice = {"name": "Report", "scopes": ["tasks:read", "tasks:read"]}

    made = await signed_in.post("/users/me/tokens", json=twice)
    events = await signed_in.get("/events", params={"types": ["task.ready", "task.ready"]})

    assert made.json()["scopes"] == ["tasks:read"]
    assert events.status_code == 200
    assert "uniqueItems" not in json.dumps(document)
