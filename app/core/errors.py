"""Errors that carry their own answer, and the database's errors in the same words.

A service raises a `HiveError` leaf that lives beside it and names the fact; the API turns any of them into
`application/problem+json`. What the database refuses is translated here, by constraint name and SQLSTATE.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import ClassVar

import asyncpg

from app.causes.postgres import known_why_postgres
from app.core.logging import current_request_id


class HiveError(Exception):
    """An answer other than success.

    `status` is the HTTP status, `code` stable and for programs, `detail` a sentence for people, `extra` further
    members of the problem document, `headers` what the HTTP answer has to carry.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"

    def __init__(
        self,
        detail: str,
        *,
        status: int | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        **extra: object,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        # For the log and for those who run HIVE; it may say more than the answer does.
        self.reason = detail
        self.status_code = status or self.status
        self.error_code = code or self.code
        self.headers = dict(headers or {})
        self.extra = extra

    def as_problem(self) -> dict[str, object]:
        """The problem document (RFC 9457) of the answer."""
        return problem_document(
            self.status_code, self.error_code, self.detail, request_id=current_request_id(), extra=self.extra
        )


def problem_document(
    status: int, code: str, detail: str, *, request_id: str | None, extra: Mapping[str, object] | None = None
) -> dict[str, object]:
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request_id,
        **(extra or {}),
    }


class NotFound(HiveError):
    status = 404
    code = "not_found"


class Forbidden(HiveError):
    status = 403
    code = "forbidden"


class Unauthorized(HiveError):
    status = 401
    code = "unauthorized"

    def __init__(self, detail: str, *, code: str | None = None) -> None:
        super().__init__(detail, code=code, headers={"WWW-Authenticate": "Bearer"})


class Conflict(HiveError):
    status = 409
    code = "conflict"


class MalformedInput(HiveError):
    """Input that is refused outside of pydantic's reach; `field` and `where` name the culprit."""

    status = 422
    code = "invalid_request"

    def __init__(self, detail: str, *, field: str, where: str, code: str) -> None:
        error = {"pointer": f"/{field}", "in": where, "code": code, "detail": detail}
        super().__init__(detail, errors=[error])


class ServiceUnavailable(HiveError):
    status = 503
    code = "service_unavailable"

    def __init__(self, detail: str, *, code: str | None = None) -> None:
        super().__init__(detail, code=code, headers={"Retry-After": "1"})


# The naming convention of the models makes these names certain.
CONSTRAINT_ERRORS: dict[str, tuple[int, str, str]] = {
    "uq_users_email_key": (409, "email_taken", "An account with this e-mail address exists already."),
    "uq_user_task_associations_open": (409, "already_claimed", "Somebody else holds this task."),
    "fk_tasks_owner_id_users": (404, "user_not_found", "There is no such user."),
    "fk_tasks_assignee_id_users": (404, "user_not_found", "There is no such user."),
}

UNAVAILABLE = "The database can't be reached at the moment; try again shortly."
# For what trying again doesn't mend. The log and `hive doctor` name the cause.
UNUSABLE = "The database can't be used at the moment."
SQLSTATE_ERRORS: dict[str, tuple[int, str, str]] = {
    "40001": (503, "try_again", "Somebody changed the same data at the same time; try again."),
    "40P01": (503, "try_again", "Somebody changed the same data at the same time; try again."),
    "55P03": (503, "try_again", "Somebody else is changing this; try again."),
    "57014": (503, "too_slow", "The database took too long to answer; try again."),
    "3D000": (503, "database_missing", "There is no such database on the server; scripts/init_db.py makes it."),
    "28000": (503, "database_refuses", "The database refuses this user."),
    "28P01": (503, "database_refuses", "The database refuses this user's password."),
    "42P01": (503, "not_migrated", "The database is not migrated yet; run: hive migrate."),
    "42703": (503, "not_migrated", "The database is not migrated yet; run: hive migrate."),
    "42501": (503, "database_refuses", "The database does not let this user do that."),
    "26000": (503, "database_unavailable", UNUSABLE),
    "42P05": (503, "database_unavailable", UNUSABLE),
    "25P03": (503, "too_slow", "The transaction took too long; try again."),
    "25P04": (503, "too_slow", "The transaction took too long; try again."),
    "25006": (503, "database_read_only", "The database takes no changes at the moment."),
    "53100": (503, "database_full", "The database has no space left."),
    "22P05": (422, "invalid_text", "A text has a character that can't be stored."),
    "22021": (422, "invalid_text", "A text has a character that can't be stored."),
}
# Class 08 is a lost connection, 53 a server without resources, 57P a server that goes down or comes up.
UNAVAILABLE_CLASSES = ("08", "53", "57P", "58")
# Unknown and refused settings of a connection, and an unknown protocol.
ADDRESS_STATES = frozenset({"42704", "22023", "0A000"})
# What the driver raises when an address, or what listens there, is none of PostgreSQL's.
MISUSED = (asyncpg.ClientConfigurationError, asyncpg.ProtocolError, asyncpg.TargetServerAttributeNotMatched)
CONSTRAINT_CLASS = "23"


def from_database(error: Exception) -> HiveError | None:
    """The answer for what the database (or the way to it) raised; None when it is no fault of theirs.

    asyncpg's outage errors can be plain `OSError`s, so those count as well. The answer's `reason` names the cause.
    """
    found = _answer_to(error)
    if found is not None and found.status_code == 503 and (cause := known_why_postgres(error)):
        found.reason = cause.sentence
    return found


def is_fault_of_database(error: HiveError) -> bool:
    """Whether the database or the way to it fails, and not only this transaction."""
    return error.error_code.startswith(("database_", "not_migrated"))


def _answer_to(error: Exception) -> HiveError | None:
    return _unavailable(error) if isinstance(error, (OSError, *MISUSED)) else _from_driver(error)


def _unavailable(error: BaseException) -> HiveError:
    cause = known_why_postgres(error)
    detail = UNAVAILABLE if cause is None or cause.may_pass else UNUSABLE
    return ServiceUnavailable(detail, code="database_unavailable")


def _from_driver(error: BaseException | None) -> HiveError | None:
    sqlstate = getattr(error, "sqlstate", None)
    if error is None or not isinstance(sqlstate, str):
        return None
    constraint = getattr(error, "constraint_name", None)
    found = CONSTRAINT_ERRORS.get(constraint or "") or SQLSTATE_ERRORS.get(sqlstate)
    if found is None and (sqlstate.startswith(UNAVAILABLE_CLASSES) or _is_about_address(error)):
        return _unavailable(error)
    if found is None and sqlstate.startswith(CONSTRAINT_CLASS):
        found = (409, "conflict", "The change contradicts what is stored.")
    if found is None:
        return None
    status, code, detail = found
    headers = {"Retry-After": "1"} if status == 503 else None
    return HiveError(detail, status=status, code=code, headers=headers)


def _is_about_address(error: BaseException) -> bool:
    """Whether the server refuses what DATABASE_URL says of each connection."""
    return getattr(error, "sqlstate", "") in ADDRESS_STATES and known_why_postgres(error) is not None
