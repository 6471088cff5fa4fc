"""Hostile input in every field of every route: no fault, no answer that isn't declared, nothing that breaks a read."""

import json
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote
from uuid import UUID
from zlib import crc32

import httpx2
import jsonschema_rs
import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.redis import connect_redis
from app.models import Task, User
from tests.builders.agents import create_agent
from tests.builders.tasks import create_task
from tests.builders.users import PASSWORD, create_user
from tests.conftest import ClientAs, forget_callers
from tests.fuzz.corpus import JSON_VALUES, TEXTS, UNREADABLE
from tests.fuzz.reading import read_all_lists, read_histories
from tests.utils.routes import document
from tests.utils.test_utils import problem

API = "/api/v1"
TASK = f"{API}/tasks/{{task_id}}"
DOCUMENT = document()
JSON = {"Content-Type": "application/json"}
FORM = "application/x-www-form-urlencoded"
HOLE = "the place of the value"
# In the short form a place gets one of so many values.
ONE_IN = 8

SOMEBODY = {"display_name": "Ada", "role": "Designer", "skills": ["analysis"]}
EDIT = {
    "title": "Orchids",
    "description": "Two",
    "category": "greenhouse",
    "priority": "low",
    "impact_points": 3,
    "due_at": "2030-01-01T00:00:00Z",
}
CHANGE = EDIT | {"status": "in_progress", "owner_id": "{user_id}"}
TOKEN = {"name": "Report", "scopes": ["tasks:read"], "expires_at": "2999-01-01T00:00:00Z"}
CREDENTIALS = {"email": "ada@example.org", "password": PASSWORD}
# A whole body of each route that takes one, with every field that there is. `{…}` stands for an id.
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", f"{API}/auth/register"): SOMEBODY | CREDENTIALS | {"time_zone": "Europe/Berlin"},
    ("POST", f"{API}/auth/login"): CREDENTIALS,
    ("POST", f"{API}/auth/refresh"): {"refresh_token": "none"},
    ("POST", f"{API}/users/me/tokens"): TOKEN,
    ("POST", f"{API}/agents"): SOMEBODY | {"scopes": ["tasks:read"], "expires_at": TOKEN["expires_at"]},
    ("POST", f"{API}/agents/{{agent_id}}/tokens"): TOKEN,
    ("PATCH", f"{API}/users/me"): SOMEBODY
    | CREDENTIALS
    | {"mail_notifications": True, "time_zone": "Asia/Tokyo", "current_password": PASSWORD}
    | {"keep_sessions": True, "keep_tokens": True},
    ("PUT", f"{API}/users/me"): SOMEBODY
    | CREDENTIALS
    | {"mail_notifications": True, "time_zone": "Asia/Tokyo", "current_password": PASSWORD}
    | {"keep_sessions": True, "keep_tokens": True},
    ("POST", f"{API}/admin/users/{{user_id}}/sign-out"): {"keep_tokens": True},
    ("POST", f"{API}/admin/users/{{user_id}}/set-password"): {"password": PASSWORD, "keep_tokens": True},
    ("POST", f"{API}/tasks"): EDIT | {"status": "available"},
    ("POST", f"{API}/tasks/claim-next"): {
        "lease_seconds": 60,
        "category": ["greenhouse"],
        "priority": ["low"],
        "q": "orchids",
        "wait": 0,
    },
    ("PATCH", TASK): CHANGE,
    ("PUT", TASK): CHANGE,
    ("POST", f"{TASK}/assign"): {"user_id": "{user_id}"},
    ("POST", f"{TASK}/claim"): {"lease_seconds": 60},
    ("POST", f"{TASK}/lease"): {"lease_seconds": 60},
    ("PUT", f"{TASK}/status"): {"status": "in_progress"},
    ("POST", f"{API}/tasks/batch"): {
        "mode": "each",
        "items": [
            {"op": "create", "body": EDIT | {"status": "available"}},
            {"op": "update", "id": "{task_id}", "if_match": '"1"', "body": CHANGE},
            {"op": "status", "id": "{task_id}", "body": {"status": "in_progress"}},
            {"op": "assign", "id": "{task_id}", "body": {"user_id": "{user_id}"}},
        ],
    },
    ("POST", f"{API}/debug/run_test_celery_task"): {"message": "Orchids"},
}
FORMS = {
    ("POST", f"{API}/auth/token"): {
        "grant_type": "password",
        "username": "ada@example.org",
        "password": PASSWORD,
        "refresh_token": "x" * 86,
    }
}
# A stream that is asked to go on in another history tells that it can't, and ends.
QUERIES = {("GET", f"{API}/events/stream"): {"after": "0", "epoch": "00000000-0000-0000-0000-000000000001"}}
NEEDS_PASSWORD = CREDENTIALS.keys() | {"current_password"}
# Whoever does it has no account afterwards, or another password.
LAST_CALLS = frozenset({("DELETE", f"{API}/users/me"), ("PATCH", f"{API}/users/me"), ("PUT", f"{API}/users/me")})


@dataclass(frozen=True)
class Place:
    """Where a value goes: `steps` lead to it within a body; elsewhere it has a name alone."""

    method: str
    path: str
    where: str
    steps: tuple[str | int, ...]

    def __str__(self) -> str:
        return f"{self.method}-{self.path.removeprefix(API)}-{self.where}-{'/'.join(map(str, self.steps))}"

    @property
    def operation(self) -> dict[str, Any]:
        operation: dict[str, Any] = DOCUMENT["paths"][self.path][self.method.lower()]
        return operation

    @property
    def uses_up_its_task(self) -> bool:
        """Whether a call that is taken leaves a task behind with which the next one would be another call."""
        if (self.method, self.path) == ("PATCH", TASK):
            return False
        return "{task_id}" in self.path + json.dumps(self.body) or self.path.endswith("/claim-next")

    @property
    def body(self) -> dict[str, Any] | None:
        """The body that the value goes with, or into."""
        body = BODIES.get((self.method, self.path))
        if body and self.path.endswith("/users/me") and self.steps[0] not in NEEDS_PASSWORD:
            # Checking a password takes its time.
            return {name: value for name, value in body.items() if name not in NEEDS_PASSWORD}
        return body


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def places() -> Iterator[Place]:
    """Every field of every route."""
    for method, path, operation in operations():
        for parameter in operation.get("parameters", []):
            yield Place(method, path, parameter["in"], (parameter["name"],))
        for name in FORMS.get((method, path), {}):
            yield Place(method, path, "form", (name,))
        for steps in steps_in(BODIES.get((method, path), {})):
            yield Place(method, path, "body", steps)


def steps_in(value: Any, *before: str | int) -> Iterator[tuple[str | int, ...]]:
    """The way to each place within a value."""
    if before:
        yield before
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, each in inner:
        yield from steps_in(each, *before, step)


def with_hole(value: Any, steps: tuple[str | int, ...]) -> Any:
    """A copy of the value with a hole at that place."""
    if not steps:
        return HOLE
    step, *further = steps
    if isinstance(value, dict):
        return value | {step: with_hole(value[step], tuple(further))}
    return [with_hole(each, tuple(further)) if number == step else each for number, each in enumerate(value)]


def names_in(value: Any) -> set[str]:
    """The names of all fields in a body."""
    return {step for steps in steps_in(value) for step in steps if isinstance(step, str)}


def names_in_schema(schema: Any) -> set[str]:
    """The names of all fields that a body may have."""
    if isinstance(schema, list):
        return set().union(*map(names_in_schema, schema))
    if not isinstance(schema, dict):
        return set()
    if reference := schema.get("$ref"):
        return names_in_schema(DOCUMENT["components"]["schemas"][reference.rpartition("/")[2]])
    parts = (schema.get(part, []) for part in ("items", "anyOf", "oneOf"))
    properties = schema.get("properties", {})
    return set(properties).union(*map(names_in_schema, [*properties.values(), *parts]))


def test_the_bodies_have_every_field_that_there_is() -> None:
    for method, path, operation in operations():
        for kind, content in operation.get("requestBody", {}).get("content", {}).items():
            sent = FORMS[method, path] if kind == FORM else BODIES[method, path]
            optional = {"scope", "client_id", "client_secret"} if kind == FORM else set()
            assert names_in(sent) == names_in_schema(content["schema"]) - optional, f"{method} {path}"


class Sender:
    """Sends a value in its place, as an admin, for whom most is possible. What a call may end is made anew for it."""

    def __init__(self, session: AsyncSession, client_as: ClientAs, redis_url: str) -> None:
        self._session = session
        self._client_as = client_as
        self._redis = connect_redis(redis_url)
        self._is_ready = False

    async def begin(self) -> None:
        """Leave what has been made as it is. Another place gets a caller, a task and an agent of its own."""
        self._is_ready = False
        await forget_callers(self._redis)

    async def send(self, place: Place, value: str) -> httpx2.Response:
        if not self._is_ready or place.method != "GET":
            await self._prepare(place)
        return await self._client.send(request_with(self._client, place, value, self._ids))

    async def _prepare(self, place: Place) -> None:
        if not self._is_ready or (place.method, place.path) in LAST_CALLS:
            self._admin = await create_user(self._session, is_admin=True)
            self._client = await self._client_as(self._admin)
        if not self._is_ready or "agent_id" in place.path:
            self._agent = await create_agent(self._session, owner=self._admin)
        if "/auth/" in place.path or "/users/me" in place.path:
            await forget_callers(self._redis)
        if not self._is_ready or place.uses_up_its_task:
            self._task = await create_task(self._session, owner=self._admin)
        self._ids = ids_of(self._task, self._agent)
        self._is_ready = True


@pytest.fixture
async def sender(session: AsyncSession, client_as: ClientAs, redis_url: str) -> AsyncIterator[Sender]:
    sender = Sender(session, client_as, redis_url)
    yield sender
    await sender._redis.aclose()


def pointer_to(place: Place) -> str:
    return "".join(f"/{step}" for step in place.steps)


def is_null_allowed_at(place: Place) -> bool:
    schema = place.operation["requestBody"]["content"]["application/json"]["schema"]
    body = json.loads(json.dumps(with_hole(place.body, place.steps)).replace(json.dumps(HOLE), "null"))
    return jsonschema_rs.Draft202012Validator({**schema, "components": DOCUMENT["components"]}).is_valid(body)


def ids_of(task: Task, user: User) -> dict[str, UUID]:
    names = ("user_id", "agent_id", "session_id", "token_id", "notification_id")
    return {"task_id": task.id, "blocker_id": task.id, **dict.fromkeys(names, user.id)}


def request_with(client: httpx2.AsyncClient, place: Place, value: str, ids: dict[str, UUID]) -> httpx2.Request:
    name = str(place.steps[0])
    # A lone surrogate is sent as the bytes that it would be, were it allowed.
    as_bytes = value.encode(errors="surrogatepass")
    filled = {
        each: quote(as_bytes, safe="") if (each, place.where) == (name, "path") else str(ids[each]) for each in ids
    }
    address = "http://hive.test" + place.path.format(**filled)
    query = {each: quote(value) for each, value in QUERIES.get((place.method, place.path), {}).items()}
    if place.where == "query":
        query[name] = quote(as_bytes, safe="")
    if query:
        address += "?" + "&".join(f"{each}={value}" for each, value in query.items())
    headers = [(name.encode(), as_bytes)] if place.where == "header" else []
    body = place.body
    content: bytes | None = None
    if form := FORMS.get((place.method, place.path)):
        content = "&".join(
            f"{each}={quote(as_bytes if each == name else form[each], safe='')}" for each in form
        ).encode()
        headers.append((b"content-type", FORM.encode()))
    elif body is not None:
        text = json.dumps(with_hole(body, place.steps) if place.where == "body" else body)
        for each, known in ids.items():
            text = text.replace(f"{{{each}}}", str(known))
        content = text.replace(json.dumps(HOLE), value).encode()
        headers.append((b"content-type", b"application/json"))
    return client.build_request(place.method, address, content=content, headers=headers)


def complaint_of(answer: httpx2.Response, place: Place) -> str | None:
    """What is wrong with an answer."""
    if answer.status_code >= 500 or str(answer.status_code) not in place.operation["responses"]:
        return f"{answer.status_code} {answer.text[:500]}"
    if "evil" in str(answer.headers.get("set-cookie")):
        return f"a header was injected: {answer.headers}"
    if answer.status_code >= 400:
        problem(answer, answer.status_code)
    return None


def values_for(place: Place, *, are_all_wanted: bool) -> dict[str, str]:
    """The values to send. In the short form it's some of them, others in each place, so that all are sent somewhere."""
    values = JSON_VALUES if place.where == "body" else TEXTS
    first, step = (0, 1) if are_all_wanted else (crc32(str(place).encode()) % ONE_IN, ONE_IN)
    chosen = dict(list(values.items())[first::step])
    if place.where == "path":
        # Without its part an address is another one.
        chosen.pop("nothing", None)
    return chosen


def by_route(chosen: Iterable[Place]) -> list[Any]:
    """The places, a parameter for each route: what all of them have stored is then read once."""
    routes: dict[str, list[Place]] = {}
    for place in chosen:
        routes.setdefault(f"{place.method}-{place.path.removeprefix(API)}", []).append(place)
    return [pytest.param(places, id=name) for name, places in routes.items()]


@pytest.mark.fuzz
@pytest.mark.parametrize("places_of_route", by_route(places()))
async def test_no_value_in_any_place_is_a_fault(
    sender: Sender, signed_in_admin: httpx2.AsyncClient, places_of_route: list[Place], is_long: bool
) -> None:
    complaints, is_stored = {}, False
    for place in places_of_route:
        await sender.begin()
        for name, value in values_for(place, are_all_wanted=is_long).items():
            answer = await sender.send(place, value)
            if complaint := complaint_of(answer, place):
                complaints[f"{name} at {place}"] = complaint
            is_stored = is_stored or (answer.is_success and place.where == "body")

    assert complaints == {}
    if is_stored:
        await read_all_lists(signed_in_admin)
        await read_histories(signed_in_admin)


@pytest.mark.fuzz
@pytest.mark.parametrize("places_of_route", by_route(place for place in places() if place.where == "body"))
async def test_null_is_taken_where_the_document_allows_it(sender: Sender, places_of_route: list[Place]) -> None:
    complaints = {}
    for place in places_of_route:
        await sender.begin()
        if complaint := complaint_of_null(await sender.send(place, "null"), place):
            complaints[str(place)] = complaint

    assert complaints == {}


def complaint_of_null(answer: httpx2.Response, place: Place) -> str | None:
    """What is wrong with an answer to null."""
    faults = problem(answer, 422)["errors"] if answer.status_code == 422 else []
    at_this_place = [fault["code"] for fault in faults if fault["pointer"] == pointer_to(place)]
    if at_this_place == ["current_password_required"]:
        # One field asks for another, of which a schema knows nothing: to be null is as to be left out.
        at_this_place = []
    if is_null_allowed_at(place):
        is_right = at_this_place == []
    else:
        is_right = at_this_place == ["null_not_allowed"] or [fault["code"] for fault in faults] == ["union_tag_invalid"]
    return None if is_right else f"{answer.status_code} {answer.text[:500]}"


@pytest.mark.parametrize("route", tuple(BODIES), ids="-".join)
async def test_a_body_that_is_none_is_malformed(
    signed_in_admin: httpx2.AsyncClient, session: AsyncSession, admin: User, route: tuple[str, str]
) -> None:
    method, path = route
    task = await create_task(session, owner=admin)
    address = "http://hive.test" + path.format(**ids_of(task, await create_agent(session, owner=admin)))
    may_be_left_out = not DOCUMENT["paths"][path][method.lower()]["requestBody"].get("required", False)
    before = task.version

    answers = {
        name: await signed_in_admin.request(method, address, content=body, headers=JSON)
        for name, body in UNREADABLE.items()
        if body or not may_be_left_out
    }

    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(answers, 422)
    assert {problem(answer, 422)["code"] for answer in answers.values()} == {"invalid_request"}
    await session.refresh(task)
    assert task.version == before
