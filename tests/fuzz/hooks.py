"""What the fuzzer has to know of HIVE besides its OpenAPI document. It's loaded by `schemathesis.toml`."""

import itertools
import os
import secrets
from typing import Any

import httpx2
import schemathesis
from schemathesis import AuthContext, Case, HookContext, Response
from schemathesis.core.failures import Failure
from schemathesis.openapi.checks import RejectedPositiveData

from tests.fuzz.things import other_than_oneself, thing_for

ADDRESS = os.environ["HIVE_ADDRESS"]
TOKEN = os.environ["HIVE_TOKEN"]
# Whoever calls them has no session or no account afterwards, or another password.
LAST_CALLS = (
    ("DELETE", "/api/v1/users/me"),
    ("DELETE", "/api/v1/users/me/sessions"),
    ("DELETE", "/api/v1/users/me/sessions/{session_id}"),
    ("POST", "/api/v1/auth/logout"),
    ("PATCH", "/api/v1/users/me"),
    ("PUT", "/api/v1/users/me"),
)
# Rules that a JSON schema has no words for, by the codes of the answers.
BEYOND_SCHEMAS = frozenset(
    {
        "current_password_required",  # One field asks for another.
        "common_password",  # A list of thousands.
        "password_names_account",  # It depends on other fields.
        "missing_for_grant",
        "idempotency_key_reused",  # It was free the first time.
        "invalid_cursor",  # Only a server makes cursors.
        "invisible_text",  # Of characters above U+FFFF, which not every library's patterns can tell of.
        "invalid_email",  # Formats are told, and each library has its own opinion of them.
        "invalid_datetime",
        "unknown_time_zone",  # Their names are in a database of their own.
        "datetime_out_of_range",
        "not_in_future",
    }
)
# What HTTP itself has, and needs no words.
OF_EVERY_SERVER = frozenset({"allow", "content-length", "content-type", "date", "server", "transfer-encoding", "vary"})
# For browsers, at every address; the document would say it of each answer.
FOR_BROWSERS = frozenset({"content-security-policy", "referrer-policy", "x-content-type-options", "x-frame-options"})
SECONDS_TO_WAIT = 0.05
INSIDES = ("Traceback", "sqlalchemy", "asyncpg", "site-packages")

AnyCase = Case[Any]
addresses = itertools.count()


@schemathesis.auth(refresh_interval=None)
class SignIn:
    """An admin, who gets furthest; and for calls that end a sign-in, an account of their own."""

    def get(self, _case: AnyCase, context: AuthContext) -> str:
        method, path = context.operation.method.upper(), context.operation.path
        return token_of_a_new_account() if (method, path) in LAST_CALLS else TOKEN

    def set(self, case: AnyCase, data: str, _context: AuthContext) -> None:
        case.headers["Authorization"] = f"Bearer {data}"


def token_of_a_new_account() -> str:
    credentials = {"email": f"{secrets.token_hex(8)}@example.org", "password": secrets.token_hex(8)}
    with httpx2.Client(base_url=f"{ADDRESS}/api/v1") as client:
        client.post("/auth/register", json={**credentials, "display_name": "Ada"}).raise_for_status()
        signed_in = client.post("/auth/login", json=credentials).raise_for_status()
    return str(signed_in.json()["access_token"])


@schemathesis.hook
def before_call(_context: HookContext, case: AnyCase, _kwargs: dict[str, Any]) -> None:
    # Wrong passwords are limited by the caller's address, and a refused attempt reaches nothing.
    number = next(addresses)
    case.headers["X-Forwarded-For"] = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    if number % 2:
        # The others name what the fuzzer knows of, or nothing.
        case.path_parameters |= thing_for(case.method.upper(), case.operation.path, case.path_parameters)
    case.path_parameters |= other_than_oneself(case.operation.path, case.path_parameters)
    for part in (case.query, case.body):
        if isinstance(part, dict) and is_long(part.get("wait")):
            part["wait"] = SECONDS_TO_WAIT


def is_long(wait: object) -> bool:
    """Whether somebody would really wait: a wait that is not allowed is answered at once."""
    return isinstance(wait, (int, float)) and not isinstance(wait, bool) and SECONDS_TO_WAIT < wait <= 30


@schemathesis.hook
def filter_failure(_context: HookContext, failure: Failure, _case: AnyCase, response: Response) -> bool:
    """Whether it's one: not if a request broke nothing but rules that its schema can't tell."""
    return not (isinstance(failure, RejectedPositiveData) and codes_in(response.json()) <= BEYOND_SCHEMAS)


def codes_in(problem: dict[str, Any]) -> set[str]:
    return {fault["code"] for fault in problem.get("errors") or [problem]}


@schemathesis.check
def tells_of_its_headers(_context: object, response: Response, case: AnyCase) -> None:
    answer = case.operation.responses.find_by_status_code(response.status_code)
    told = {name.lower() for name, _ in answer.headers.items()} if answer else set()
    unknown = {name.lower() for name in response.headers} - OF_EVERY_SERVER - FOR_BROWSERS - told
    assert not unknown, f"{unknown} are not described"


@schemathesis.check
def tells_nothing_of_the_inside(_context: object, response: Response, _case: AnyCase) -> None:
    if response.status_code >= 400:
        assert not [inside for inside in INSIDES if inside in response.text], response.text
