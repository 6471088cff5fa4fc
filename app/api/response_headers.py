"""The headers of answers, as the OpenAPI document describes them. The fuzzer compares them with what is sent."""

from collections.abc import Iterator
from typing import Any

from app.api.limiting import is_limited

TEXT = {"type": "string"}
NUMBER = {"type": "integer", "minimum": 0}


def _header(description: str, schema: dict[str, Any] = TEXT, *, is_always_sent: bool = False) -> dict[str, Any]:
    return {"description": description, "schema": schema} | ({"required": True} if is_always_sent else {})


COMPONENTS = {
    "Accept-Encoding": _header("The codings that a body may have."),
    "Cache-Control": _header("`no-store`: nobody in between may keep the answer."),
    "Connection": _header("`close`: the next request needs another connection."),
    "ETag": _header('The version, in quotes. Pass it as `If-Match` or `If-None-Match`: `"7"`.', is_always_sent=True),
    "Hive-Epoch": _header(
        "The history that `Hive-Seq` belongs to.", {"type": "string", "format": "uuid"}, is_always_sent=True
    ),
    "Hive-Seq": _header(
        "The position in the log of events that the answer is true for. Read on after it.", NUMBER, is_always_sent=True
    ),
    "Idempotency-Replayed": _header("`true` if an earlier request with this `Idempotency-Key` was answered so."),
    "Link": _header('The next page, if there is one: `<…>; rel="next"` (RFC 8288).'),
    "Location": _header(
        "Where the new thing is found.", {"type": "string", "format": "uri-reference"}, is_always_sent=True
    ),
    "RateLimit": _header('What is left: `"requests";r=<requests>;t=<seconds>`.'),
    "RateLimit-Policy": _header('The limit: `"requests";q=<requests>;w=<seconds>`.'),
    "Retry-After": _header("Seconds after which to try again.", NUMBER),
    "WWW-Authenticate": _header("How to sign in: `Bearer`, and the `scope` that a token lacks."),
    "X-Accel-Buffering": _header("`no`: nginx must not hold the events back."),
    "X-Request-ID": _header("The id of the request, which is in the log too.", is_always_sent=True),
}
WITH_POSITION = frozenset({"list_tasks"})
WITH_LOCATION = frozenset({"create_task", "create_token", "create_agent"})
WITH_SECRET = frozenset(
    {"login", "token", "refresh", "create_token", "create_agent", "create_agent_token", "create_event_ticket"}
)
VERSIONED = frozenset(f"#/components/schemas/{name}" for name in ("TaskResponse", "UserResponse", "AdminUserResponse"))
BY_STATUS = {
    "304": ("ETag",),
    "401": ("WWW-Authenticate",),
    "403": ("WWW-Authenticate",),
    "412": ("ETag",),
    "413": ("Connection",),
    "415": ("Accept-Encoding", "Connection"),
    "429": ("Retry-After",),
    "503": ("Retry-After",),
}


def describe_headers(path: str, operation: dict[str, Any]) -> None:
    """Add the headers to each answer of an operation of the document."""
    for status, response in operation["responses"].items():
        names = {*_of_every_answer(path), *BY_STATUS.get(status, ())}
        if status.startswith("2"):
            names |= set(_of_success(operation, response))
        if _takes(operation, "idempotency-key") and status < "500":
            names |= {"Idempotency-Replayed"} | ({"Retry-After"} if status == "409" else set())
        response["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in sorted(names)}


def _of_every_answer(path: str) -> Iterator[str]:
    yield "X-Request-ID"
    if is_limited(path):
        yield from ("RateLimit", "RateLimit-Policy")


def _of_success(operation: dict[str, Any], response: dict[str, Any]) -> Iterator[str]:
    name, content = operation["operationId"], response.get("content", {})
    if name in WITH_POSITION:
        yield from ("Hive-Seq", "Hive-Epoch")
    if name in WITH_LOCATION:
        yield "Location"
    if name in WITH_SECRET:
        yield "Cache-Control"
    if "text/event-stream" in content:
        yield from ("Cache-Control", "X-Accel-Buffering")
    if _takes(operation, "cursor"):
        yield "Link"
    if _schema_of(content) in VERSIONED:
        yield "ETag"


def _takes(operation: dict[str, Any], parameter: str) -> bool:
    return any(each["name"] == parameter for each in operation.get("parameters", []))


def _schema_of(content: dict[str, Any]) -> str | None:
    reference: str | None = content.get("application/json", {}).get("schema", {}).get("$ref")
    return reference
