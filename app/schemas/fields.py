"""The kinds of values that come in from outside, each refusing what can't be stored or shown."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any

import email_validator
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)
from pydantic_core import PydanticCustomError

# PostgreSQL can't store NUL, UTF-8 has no lone surrogates, and the other control characters confuse terminals and logs.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
# Line breaks, and marks that make a line read otherwise than it is written.
_LINE_BREAK = re.compile(r"[\t\r\n\u2028\u2029\u202a-\u202e\u2066-\u2069]")
# HIVE runs in internal networks, where names such as `corp.local` or `team.test` are real. This is the library's own
# way to allow them.
email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(3000, 1, 1, tzinfo=UTC)


class Strict(BaseModel):
    """The base of every body and every set of query parameters: what isn't known is refused by name."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def _refuse_control_characters(text: str) -> str:
    if _CONTROL.search(text):
        raise PydanticCustomError("invalid_text", "Control characters and lone surrogates are not allowed.")
    return text


def _refuse_line_breaks(text: str) -> str:
    if _LINE_BREAK.search(text):
        raise PydanticCustomError("invalid_text", "Line breaks, tabs and marks of direction are not allowed here.")
    return text


def _require_text(value: Any) -> Any:
    # Numbers would be read as seconds since 1970, and a date would silently be midnight somewhere.
    if isinstance(value, str) and "T" not in value.upper().replace(" ", "T", 1):
        raise PydanticCustomError("invalid_datetime", "A time has a date, a time of day and an offset (RFC 3339).")
    if not isinstance(value, (str, datetime)):
        raise PydanticCustomError("invalid_datetime", "A time is a text as RFC 3339 has it.")
    return value


def _in_range(moment: datetime) -> datetime:
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:
        moment = datetime.max.replace(tzinfo=UTC)
    if not EARLIEST <= moment < LATEST:
        raise PydanticCustomError("datetime_out_of_range", "Times lie between the years 1970 and 3000.")
    return moment


def _in_future(moment: datetime) -> datetime:
    if moment <= datetime.now(UTC):
        raise PydanticCustomError("not_in_future", "This time lies in the past.")
    return moment


def normalize_email(address: str) -> str:
    """The one way in which an address is stored and looked up."""
    try:
        found = email_validator.validate_email(
            address, check_deliverability=False, allow_smtputf8=False, globally_deliverable=False
        )
    except email_validator.EmailNotValidError:
        raise PydanticCustomError("invalid_email", "This is not an e-mail address.") from None
    return found.ascii_email or found.normalized


# Lengths come first, while pydantic still knows that it measures a text and says "characters".
CLEAN = AfterValidator(_refuse_control_characters)
ONE_LINE = AfterValidator(_refuse_line_breaks)


def _line(*, at_least: int = 0, at_most: int) -> StringConstraints:
    return StringConstraints(strip_whitespace=True, min_length=at_least, max_length=at_most)


Email = Annotated[str, StringConstraints(max_length=254), AfterValidator(normalize_email)]
Password = Annotated[str, StringConstraints(min_length=8, max_length=128), CLEAN]
DisplayName = Annotated[str, _line(at_least=1, at_most=100), CLEAN, ONE_LINE]
Role = Annotated[str, _line(at_most=100), CLEAN, ONE_LINE]
Skill = Annotated[str, _line(at_least=1, at_most=50), CLEAN, ONE_LINE]
Skills = Annotated[list[Skill], Field(max_length=50)]
Title = Annotated[str, _line(at_least=1, at_most=200), CLEAN, ONE_LINE]
Description = Annotated[str, StringConstraints(max_length=20_000), CLEAN]
Category = Annotated[str, _line(at_least=1, at_most=50), CLEAN, ONE_LINE]
TokenName = Annotated[str, _line(at_least=1, at_most=100), CLEAN, ONE_LINE]
SearchWords = Annotated[str, _line(at_least=1, at_most=200), CLEAN, ONE_LINE]
TestMessage = Annotated[str, _line(at_most=200), CLEAN, ONE_LINE]
ImpactPoints = Annotated[int, Field(ge=0, le=1_000_000, strict=True)]
Moment = Annotated[AwareDatetime, BeforeValidator(_require_text), AfterValidator(_in_range)]
FutureMoment = Annotated[Moment, AfterValidator(_in_future)]
ChatText = Annotated[str, StringConstraints(min_length=1, max_length=4_000), CLEAN]
LeaseSeconds = Annotated[int, Field(ge=30, le=86_400, strict=True)]
# As large as the column is; a JSON number of this size is still exact everywhere.
Seq = Annotated[int, Field(ge=0, le=2**53 - 1)]


class PageQuery(Strict):
    """Which page of a list. The cursor comes from the `Link` header of the page before."""

    limit: int = Field(default=50, ge=1, le=200)
    cursor: str | None = Field(default=None, min_length=1, max_length=1_000)
