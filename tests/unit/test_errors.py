"""What the database raises, said as the answer to give."""

import asyncpg
import pytest

from app.core.errors import (
    CONSTRAINT_ERRORS,
    SQLSTATE_ERRORS,
    Conflict,
    Forbidden,
    HiveError,
    MalformedInput,
    NotFound,
    ServiceUnavailable,
    Unauthorized,
    from_database,
)


def raised_by_driver(sqlstate: str, *, constraint: str | None = None) -> asyncpg.PostgresError:
    """As the driver makes it of the fields that the server sends."""
    fields = {"C": sqlstate, "M": "SELECT something secret"} | ({"n": constraint} if constraint else {})
    error: asyncpg.PostgresError = asyncpg.PostgresError.new(fields)
    return error


@pytest.mark.parametrize(("sqlstate", "expected"), SQLSTATE_ERRORS.items())
def test_a_state_has_its_answer(sqlstate: str, expected: tuple[int, str, str]) -> None:
    found = from_database(raised_by_driver(sqlstate))

    assert found is not None
    assert (found.status_code, found.error_code, found.detail) == expected
    assert ("Retry-After" in found.headers) == (expected[0] == 503)


@pytest.mark.parametrize(("constraint", "expected"), CONSTRAINT_ERRORS.items())
def test_a_constraint_has_its_answer(constraint: str, expected: tuple[int, str, str]) -> None:
    found = from_database(raised_by_driver("23505", constraint=constraint))

    assert found is not None
    assert (found.status_code, found.error_code, found.detail) == expected


@pytest.mark.parametrize("sqlstate", ["23502", "23503", "23505", "23514", "23P01"])
def test_any_other_constraint_is_a_conflict(sqlstate: str) -> None:
    found = from_database(raised_by_driver(sqlstate, constraint="one_that_nobody_knows"))

    assert found is not None
    assert (found.status_code, found.error_code) == (409, "conflict")


@pytest.mark.parametrize("sqlstate", ["08000", "08006", "53300", "57P01", "57P03", "58030"])
def test_a_server_that_does_not_serve_is_away(sqlstate: str) -> None:
    found = from_database(raised_by_driver(sqlstate))

    assert found is not None
    assert (found.status_code, found.error_code) == (503, "database_unavailable")
    assert found.headers == {"Retry-After": "1"}


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(),
        FileNotFoundError("/run/.s.PGSQL.5432"),
        TimeoutError(),
        OSError("Multiple exceptions"),
        asyncpg.ConnectionDoesNotExistError("gone"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_way_that_is_blocked_is_a_database_that_is_away(error: Exception) -> None:
    found = from_database(error)

    assert found is not None
    assert (found.status_code, found.error_code) == (503, "database_unavailable")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("our own"),
        KeyError("x"),
        HiveError("already an answer"),
        raised_by_driver("42883"),
        raised_by_driver("42601"),
        raised_by_driver("22012"),
    ],
    ids=str,
)
def test_a_fault_of_ours_is_left_as_it_is(error: Exception) -> None:
    assert from_database(error) is None


def test_no_answer_tells_what_the_database_said() -> None:
    for sqlstate in (*SQLSTATE_ERRORS, "23505", "08006"):
        found = from_database(raised_by_driver(sqlstate))
        assert found is not None
        assert "secret" not in found.detail + str(found.extra)


@pytest.mark.parametrize(
    ("error", "status", "code", "headers"),
    [
        (NotFound("x"), 404, "not_found", {}),
        (Forbidden("x"), 403, "forbidden", {}),
        (Unauthorized("x"), 401, "unauthorized", {"WWW-Authenticate": "Bearer"}),
        (Conflict("x"), 409, "conflict", {}),
        (MalformedInput("x", field="f", where="query", code="c"), 422, "invalid_request", {}),
        (ServiceUnavailable("x"), 503, "service_unavailable", {"Retry-After": "1"}),
        (HiveError("x"), 500, "internal_error", {}),
        (HiveError("x", status=418, code="teapot", headers={"A": "b"}, more=1), 418, "teapot", {"A": "b"}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, HiveError) else None,
)
def test_an_error_carries_its_answer(error: HiveError, status: int, code: str, headers: dict[str, str]) -> None:
    assert (error.status_code, error.error_code, error.headers, error.detail) == (status, code, headers, "x")
