"""The `detail` of a 422 says the first fault, so that a client which shows nothing else shows what is wrong."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from tests.utils.test_utils import problem

SECRET = "what nobody else may read"


@pytest.mark.parametrize(
    ("method", "path", "body", "detail"),
    [
        ("POST", "/tasks", {}, "title: Field required"),
        ("POST", "/tasks", {"title": " "}, "title: String should have at least 1 character"),
        ("POST", "/tasks", {"title": "a", "nothing": 1}, "nothing: Extra inputs are not permitted"),
        ("POST", "/tasks", [], "Input should be a valid dictionary or object to extract fields from"),
        ("POST", "/auth/register", {"email": "ada@example.org"}, "password: Field required"),
        ("POST", "/auth/register", {"password": 1}, "email: Field required (1 more in `errors`)"),
        ("GET", "/tasks?limit=0", None, "limit: Input should be greater than or equal to 1"),
        ("GET", "/users/online?limit=201", None, "limit: Input should be less than or equal to 200"),
    ],
)
async def test_the_first_fault_is_said_with_its_place(
    signed_in: httpx2.AsyncClient, method: str, path: str, body: Any, detail: str
) -> None:
    answer = await signed_in.request(method, path, json=body)

    assert problem(answer, 422)["detail"] == detail


async def test_a_fault_deep_in_a_batch_has_its_way(signed_in: httpx2.AsyncClient) -> None:
    items = [{"op": "create", "body": {"title": "Roses"}}, {"op": "create", "body": {}}]

    answer = await signed_in.post("/tasks/batch", json={"mode": "atomic", "items": items})

    assert problem(answer, 422)["detail"] == "items.1.body.title: Field required"


async def test_a_detail_has_no_input_and_is_short(signed_in: httpx2.AsyncClient) -> None:
    wrong = await signed_in.patch("/users/me", json={"password": [SECRET], "current_password": SECRET})
    body = json.dumps({"title": "Roses", "x" * 10_000: 1, "\ud800": 2})
    unknown = await signed_in.post("/tasks", content=body, headers={"Content-Type": "application/json"})

    assert SECRET not in wrong.text
    assert problem(wrong, 422)["detail"].startswith("password: ")
    assert len(problem(unknown, 422)["detail"]) < 300


@pytest.mark.parametrize("path", ["/tasks", "/users", "/notifications"])
@pytest.mark.parametrize("name", ["skip", "offset", "page"])
async def test_another_way_of_paging_is_told_of_the_cursor(signed_in: httpx2.AsyncClient, path: str, name: str) -> None:
    answer = await signed_in.get(path, params={name: 10, "limit": 5})

    refused = problem(answer, 422)
    [fault] = refused["errors"]
    assert (fault["pointer"], fault["in"], fault["code"]) == (f"/{name}", "query", "extra_forbidden")
    assert "`cursor`" in fault["detail"]
    assert refused["detail"] == f"{name}: {fault['detail']}"


async def test_of_many_faults_the_first_twenty_are_named(signed_in: httpx2.AsyncClient) -> None:
    answer = await signed_in.post("/tasks", json={"title": "Roses"} | {f"x{number}": 1 for number in range(90)})

    told = problem(answer, 422)
    assert len(told["errors"]) == 20
    assert told["error_count"] == 90
    assert told["detail"] == "x0: Extra inputs are not permitted (89 more)"


@pytest.mark.parametrize("path", ["/auth/login", "/auth/register", "/tasks", "/tasks/batch"])
async def test_a_body_of_very_many_fields_is_told_of_in_few_words(client: httpx2.AsyncClient, path: str) -> None:
    body = {"email": "ada@example.org", "password": "x"} | {f"{number:05}": 1 for number in range(80_000)}

    answer = await client.post(path, json=body)

    told = problem(answer, 422)
    assert told["errors"] == [
        {
            "pointer": "",
            "in": "body",
            "code": "too_many_parts",
            "detail": "The JSON has more than 10,000 values.",
        }
    ]


async def test_json_that_comes_in_pieces_has_no_more_parts(client: httpx2.AsyncClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"email": "ada@example.org"'
        for number in range(100):
            yield b', "%d": 1' % number
        yield b"}"

    answer = await client.post("/auth/login", content=pieces(), headers={"Content-Type": "application/json"})

    assert problem(answer, 422)["errors"][0]["code"] == "too_many_parts"


@pytest.mark.parametrize(
    "body",
    [
        {"title": "Roses", "x" * 900_000: 1},
        {"mode": "each", "items": [{"op": "x" * 900_000}]},
        {"mode": "x" * 900_000, "items": []},
        {"mode": "each", "items": [{"op": "create", "body": {"title": "a", "due_at": "x" * 900_000}}]},
    ],
    ids=["a name", "a tag", "a word", "a time"],
)
async def test_no_fault_gives_back_a_long_text(signed_in: httpx2.AsyncClient, body: dict[str, Any]) -> None:
    answer = await signed_in.post("/tasks/batch", json=body)

    problem(answer, 422)
    assert len(answer.content) < 2_000
