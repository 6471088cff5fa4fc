"""Input that is malformed, unknown or too large: always an answer that names it, never a fault of ours."""

import gzip
import json
import logging
from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.main import create_app
from app.models import Event, Task, User
from tests.builders.tasks import create_task
from tests.utils.routes import document, routes
from tests.utils.test_utils import problem

JSON = {"Content-Type": "application/json"}
SECRET = "hunter2-is-what-nobody-may-read"
MIB = 1024 * 1024


def http_routes() -> list[tuple[str, str]]:
    contexts = iter_route_contexts(routes().routes)
    return [
        (method, context.path_format or "")
        for context in contexts
        if isinstance(context.original_route, APIRoute)
        for method in sorted(context.methods or ())
    ]


ROUTES = http_routes()
OPERATIONS = {
    (method.upper(), path): operation
    for path, operations in document()["paths"].items()
    for method, operation in operations.items()
}
JSON_ROUTES = [
    route for route in ROUTES if "application/json" in OPERATIONS[route].get("requestBody", {}).get("content", {})
]


@pytest.fixture
async def task(session: AsyncSession, user: User) -> Task:
    return await create_task(session, owner=user)


def address(path: str, task: Task, user: User) -> str:
    ids = dict.fromkeys(("user_id", "notification_id", "session_id", "token_id", "agent_id"), user.id)
    return "http://hive.test" + path.format(task_id=task.id, blocker_id=task.id, **ids)


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_every_route_refuses_an_unknown_query_parameter(
    signed_in_admin: httpx2.AsyncClient, task: Task, user: User, method: str, path: str
) -> None:
    answer = await signed_in_admin.request(method, address(path, task, user), params={"surprise": "1"})

    assert ("/surprise", "query", "extra_forbidden") in {
        (error["pointer"], error["in"], error["code"]) for error in problem(answer, 422)["errors"]
    }


@pytest.mark.parametrize(("method", "path"), JSON_ROUTES)
async def test_every_body_refuses_an_unknown_field(
    signed_in_admin: httpx2.AsyncClient, task: Task, user: User, method: str, path: str
) -> None:
    answer = await signed_in_admin.request(method, address(path, task, user), json={"surprise": 1})

    assert ("/surprise", "body", "extra_forbidden") in {
        (error["pointer"], error["in"], error["code"]) for error in problem(answer, 422)["errors"]
    }


UNREADABLE = {
    "not JSON": b'{"title": ',
    "text after it": b'{"title": "a"} {}',
    "single quotes": b"{'title': 'a'}",
    "NaN": b'{"title": "a", "impact_points": NaN}',
    "Infinity": b'{"title": "a", "impact_points": Infinity}',
    "minus Infinity": b'{"title": "a", "impact_points": -Infinity}',
    "too large a float": b'{"title": "a", "impact_points": 1e400}',
    "too long an integer": b'{"title": "a", "impact_points": ' + b"9" * 5_000 + b"}",
    "too large an integer": b'{"title": "a", "impact_points": 9223372036854775808}',
    "a float": b'{"title": "a", "impact_points": 1.5}',
    "a boolean": b'{"title": "a", "impact_points": true}',
    "a number in a text": b'{"title": "a", "impact_points": "1"}',
    "UTF-16": '{"title": "a"}'.encode("utf-16"),
    "UTF-16 without a mark": '{"title": "a"}'.encode("utf-16-le"),
    "UTF-32": '{"title": "a"}'.encode("utf-32"),
    "invalid UTF-8": b'{"title": "\xff"}',
    "a lone surrogate in UTF-8": b'{"title": "\xed\xa0\x80"}',
    "a lone surrogate": b'{"title": "\\ud800"}',
    "surrogates in the wrong order": b'{"title": "\\udc00\\ud800"}',
    "a lone surrogate in a name": b'{"title": "a", "\\ud800": 1}',
    "NUL": b'{"title": "a\\u0000b"}',
    "NUL in a name": b'{"title": "a", "b\\u0000": 1}',
    "a bare control character": b'{"title": "a\x01"}',
    "an escape sequence": b'{"title": "\\u001b[31m"}',
    "nested lists": b"[" * 100_000,
    "nested objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "nested values": b'{"title": "a", "category": ' + b"[" * 900 + b"]" * 900 + b"}",
    "a list": b"[]",
    "a text": b'"title"',
    "null": b"null",
    "null for a text": b'{"title": null}',
    "nothing": b"",
    "white space": b"  \n",
}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE.keys())
async def test_a_body_that_is_wrong_in_itself_is_malformed(
    signed_in: httpx2.AsyncClient, session: AsyncSession, body: bytes
) -> None:
    answer = await signed_in.post("/tasks", content=body, headers=JSON)

    shown = problem(answer, 422)
    assert shown["code"] == "invalid_request"
    assert shown["errors"]
    for table in (Task, Event):
        assert await session.scalar(select(func.count()).select_from(table)) == 0


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "image/png", "", "nonsense;;"]
)
async def test_a_body_of_another_content_type_is_malformed(
    signed_in: httpx2.AsyncClient, session: AsyncSession, kind: str
) -> None:
    answer = await signed_in.post("/tasks", content=b'{"title": "a"}', headers={"Content-Type": kind})

    problem(answer, 422)
    assert await session.scalar(select(func.count()).select_from(Task)) == 0


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "application/merge-patch+json"])
async def test_json_may_be_called_by_its_other_names(signed_in: httpx2.AsyncClient, kind: str) -> None:
    answer = await signed_in.post("/tasks", content=b'{"title": "a"}', headers={"Content-Type": kind})

    assert answer.status_code == 201


@pytest.mark.parametrize(
    "task_id", ["1", "me", "00000000", "%00", "%F0%9F%90%9D", "..%2f..", "0190b2f0-0000-7000-8000-00000000000x", "null"]
)
async def test_what_is_no_id_names_nothing(signed_in: httpx2.AsyncClient, task_id: str) -> None:
    answer = await signed_in.get(f"/tasks/{task_id}")

    assert problem(answer, 404)["code"] == "not_found"


async def test_every_fault_of_a_body_is_named_with_its_place(signed_in: httpx2.AsyncClient) -> None:
    answer = await signed_in.post("/tasks", json={"title": "", "impact_points": -1, "priority": "x", "due_at": "now"})

    assert {error["pointer"] for error in problem(answer, 422)["errors"]} == {
        "/title",
        "/impact_points",
        "/priority",
        "/due_at",
    }


async def test_a_place_is_written_as_a_json_pointer(signed_in: httpx2.AsyncClient) -> None:
    answer = await signed_in.patch("/users/me", json={"skills": ["fine", ""], "a/b~c": 1})

    assert {error["pointer"] for error in problem(answer, 422)["errors"]} == {"/skills/1", "/a~1b~0c"}


FORMS = ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]


@pytest.mark.parametrize(
    ("path", "kind", "size"),
    [
        ("/tasks", "application/json", MIB + 1),
        ("/tasks", "application/json", 10 * MIB),
        *(("/auth/token", kind, 64 * 1024 + 1) for kind in FORMS),
    ],
)
async def test_a_body_that_announces_too_much_is_refused_unread(
    signed_in: httpx2.AsyncClient, path: str, kind: str, size: int
) -> None:
    async def never_read() -> AsyncIterator[bytes]:
        pytest.fail("the body was read")
        yield b""

    headers = {"Content-Type": kind, "Content-Length": str(size)}
    answer = await signed_in.post(path, content=never_read(), headers=headers)

    assert problem(answer, 413)["code"] == "body_too_large"


@pytest.mark.parametrize(
    ("path", "kind", "most"),
    [("/tasks", "application/json", 2 * MIB), ("/auth/token", FORMS[0], 200 * 1024)],
)
async def test_a_body_that_announces_nothing_is_cut_off_at_its_limit(
    signed_in: httpx2.AsyncClient, path: str, kind: str, most: int
) -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while read < 50 * MIB:
            read += 64 * 1024
            yield b" " * 64 * 1024

    answer = await signed_in.post(path, content=endless(), headers={"Content-Type": kind})

    assert problem(answer, 413)["code"] == "body_too_large"
    assert read <= most


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "zstd", "GZIP", "identity, gzip", "x-unknown"])
@pytest.mark.parametrize("path", ["/tasks", "/auth/login", "/tasks/batch"])
async def test_an_encoded_body_is_refused(signed_in: httpx2.AsyncClient, path: str, encoding: str) -> None:
    body = gzip.compress(b'{"title": "Orchids"}')

    answer = await signed_in.post(path, content=body, headers=JSON | {"Content-Encoding": encoding})

    assert problem(answer, 415)["code"] == "unsupported_encoding"
    assert answer.headers["Accept-Encoding"] == "identity"


async def test_an_encoded_body_that_announces_no_length_is_refused(signed_in: httpx2.AsyncClient) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield gzip.compress(b'{"title": "Orchids"}')

    answer = await signed_in.post("/tasks", content=body(), headers=JSON | {"Content-Encoding": "gzip"})

    assert problem(answer, 415)["code"] == "unsupported_encoding"


@pytest.mark.parametrize("encoding", ["identity", "Identity", ""])
async def test_a_body_that_says_it_is_not_encoded_is_read(signed_in: httpx2.AsyncClient, encoding: str) -> None:
    answer = await signed_in.post("/tasks", json={"title": "Orchids"}, headers={"Content-Encoding": encoding})

    assert answer.status_code == 201


async def test_an_encoding_of_no_body_is_nothing(signed_in: httpx2.AsyncClient) -> None:
    assert (await signed_in.get("/tasks", headers={"Content-Encoding": "gzip"})).status_code == 200


async def test_a_body_of_just_the_limit_is_read(signed_in: httpx2.AsyncClient) -> None:
    body = b'{"title": "a"}'

    answer = await signed_in.post("/tasks", content=body.ljust(MIB), headers=JSON)

    assert answer.status_code == 201


async def test_an_address_of_nothing_is_a_404(client: httpx2.AsyncClient) -> None:
    for path in ("/nothing", "/tasks/", "/../nothing", "/docs/assets/nothing.js", "/docs/assets/..%2f..%2fmain.py"):
        answer = await client.get(f"http://hive.test{path}")
        assert problem(answer, 404)["code"] == "not_found"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("PUT", "/tasks/batch", "POST"), ("GET", "/tasks/claim-next", "POST"), ("DELETE", "/tasks/workflow", "GET, HEAD")],
)
async def test_a_word_in_the_place_of_an_id_is_no_id(
    signed_in: httpx2.AsyncClient, method: str, path: str, allowed: str
) -> None:
    answer = await signed_in.request(method, path)

    assert problem(answer, 405)["code"] == "method_not_allowed"
    assert answer.headers["Allow"] == allowed


async def test_a_method_that_a_route_does_not_have_is_a_405_with_those_it_has(signed_in: httpx2.AsyncClient) -> None:
    answer = await signed_in.delete("/tasks")

    assert problem(answer, 405)["code"] == "method_not_allowed"
    assert answer.headers["Allow"] == "GET, HEAD, POST"


@pytest.fixture
def broken_app(settings: Settings) -> FastAPI:
    """An application with a route that fails, in a way that nobody thought of."""
    app = create_app(settings)

    async def fail(secret: str = "") -> None:
        raise LookupError(f"SELECT password FROM users -- {secret}")

    app.add_api_route("/api/v1/broken", fail)
    return app


async def test_a_fault_of_ours_tells_nothing_but_its_id(broken_app: FastAPI, log_lines: list[str]) -> None:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(broken_app), base_url="http://hive.test") as client:
        answer = await client.get("/api/v1/broken", headers={"X-Request-ID": "the-callers-own-id"})

    assert problem(answer, 500)["code"] == "internal_error"
    assert answer.json()["request_id"] == "the-callers-own-id"
    for secret in ("SELECT", "LookupError", "Traceback", ".py", "broken"):
        assert secret not in answer.text
    assert any("LookupError" in line and "the-callers-own-id" in line for line in log_lines)


@pytest.fixture
def log_lines() -> Iterator[list[str]]:
    """What would be written to the log at its most talkative level."""
    root = logging.getLogger()
    formatter = next(handler.formatter for handler in root.handlers if handler.formatter and handler.level == 0)
    lines: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(formatter.format(record))

    level = root.level
    handler = Collector()
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield lines
    root.setLevel(level)
    root.removeHandler(handler)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/auth/register", {"display_name": "Ada", "password": SECRET}),
        ("/auth/register", {"email": SECRET, "password": SECRET, "display_name": "Ada"}),
        ("/auth/register", {"email": "ada@example.org", "display_name": "Ada", "password": [SECRET]}),
        ("/auth/register", {"email": "ada@example.org", "display_name": "Ada", "password": SECRET * 100}),
        ("/auth/register", {"email": "ada@example.org", "display_name": "Ada", "password": SECRET + "\x00"}),
        ("/auth/register", [{"password": SECRET}]),
        ("/auth/login", {"email": "ada@example.org", "password": SECRET, "extra": SECRET}),
        ("/auth/login", {"email": "ada@example.org", "password": SECRET}),
        ("/auth/login", {"email": {"password": SECRET}, "password": {"password": SECRET}}),
    ],
)
async def test_a_password_comes_back_neither_in_the_answer_nor_in_the_log(
    client: httpx2.AsyncClient, log_lines: list[str], path: str, body: object
) -> None:
    answer = await client.post(path, json=body)

    assert answer.status_code in {401, 422}
    assert SECRET not in answer.text
    assert log_lines
    assert SECRET not in "".join(log_lines)


@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
async def test_a_password_in_broken_json_does_not_come_back(
    client: httpx2.AsyncClient, log_lines: list[str], kind: str
) -> None:
    body = json.dumps({"email": "ada@example.org", "password": SECRET})[:-1].encode()

    answer = await client.post("/auth/login", content=body, headers={"Content-Type": kind})

    problem(answer, 422)
    assert SECRET not in answer.text + "".join(log_lines)


async def test_a_decent_request_id_of_the_caller_is_kept(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/health", headers={"X-Request-ID": "trace-0123.45_6"})

    assert answer.headers["X-Request-ID"] == "trace-0123.45_6"


@pytest.mark.parametrize(
    "given", ["", "short", "x" * 65, "with a space", "quote\"'<>", "line%0abreak", "ümlaute-sind-schön"]
)
async def test_another_request_id_is_replaced(client: httpx2.AsyncClient, given: str) -> None:
    answer = await client.get("/health", headers={b"X-Request-ID": given.encode()})

    assert answer.headers.get_list("X-Request-ID") != [given]
    assert len(answer.headers["X-Request-ID"]) == 36
