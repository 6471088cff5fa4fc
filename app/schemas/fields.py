"""The kinds of values that come in from outside, each refusing what can't be stored or shown."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Annotated, Any, TypeVar

import email_validator
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    StringConstraints,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, PydanticUseDefault, core_schema

from app.core.passwords import MIN_PASSWORD_LENGTH, is_common
from app.core.time_zones import Day, time_zone_names
from app.schemas.shown_names import without_invisible
from app.schemas.texts import CLEAN, NAME, ONE_LINE, SEEN
from app.search_words import MAX_WORD_LENGTH

# HIVE runs in internal networks, where names such as `corp.local` or `team.test` are real. This is the library's own
# way to allow them.
email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()
LONGEST_NAME = 100
# Characters; none of our own complaints comes near it.
LONGEST_COMPLAINT = 300
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(3000, 1, 1, tzinfo=UTC)
# So that they begin and end within these years in every time zone.
FIRST_DAY, LAST_DAY = date(1970, 1, 2), date(2999, 12, 30)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# The category of a task that is given none.
DEFAULT_CATEGORY = "general"


def _describe_defaults(schema: JsonSchemaValue) -> None:
    """Say in words what a field is when it's left out.

    Generated clients act on `default`: they send it with every request, or require the field.
    """
    for field in schema.get("properties", {}).values():
        default = field.pop("default", None)
        if default not in (None, "", []):
            said = f"`{json.dumps(default)}` unless given."
            field["description"] = f"{field['description']} {said}" if "description" in field else said


class _OrLater:
    """Leaves room in the schema for values that a later HIVE may have, which generated clients must bear."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [handler(schema), {"type": "string"}]}


class Strict(BaseModel):
    """The base of every body and every set of query parameters: what isn't known is refused by name."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, json_schema_extra=_describe_defaults
    )


class Sent(BaseModel):
    """The base of what HIVE answers. All fields are always there, and the schema says so."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)


class _Nullable:
    """Adds null to the schema of a field."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [handler(schema), {"type": "null"}]}


def _use_default_for_null(value: Any) -> Any:
    if value is None:
        raise PydanticUseDefault
    return value


class EmptyAs(_Nullable):
    """Reads null, by which forms send an empty field, as the value that stands for it."""

    def __init__(self, empty: object) -> None:
        self._empty = empty

    def __get_pydantic_core_schema__(self, source: type, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._read, handler(source))

    def _read(self, value: Any) -> Any:
        return self._empty if value is None else value


Value = TypeVar("Value")
# A word of a vocabulary in what HIVE sends.
Open = Annotated[Value, _OrLater()]
# An optional field of a body that makes something: null is the same as leaving it out.
Optionally = Annotated[Value, BeforeValidator(_use_default_for_null), _Nullable()]


def complaint_of(fault: Mapping[str, Any]) -> tuple[str, str]:
    """The code of a fault that pydantic has found, and a sentence about it."""
    if fault["input"] is None and fault["type"] not in {"missing", "json_invalid"}:
        # Forms send null for what is empty, and which type it should have is no help to them.
        return "null_not_allowed", "This can't be empty: null is not allowed here."
    # Pydantic quotes a tag that it doesn't know, however long it is.
    said = fault["msg"]
    return fault["type"], said if len(said) <= LONGEST_COMPLAINT else f"{said[: LONGEST_COMPLAINT - 1]}…"


def _require_text(value: Any) -> Any:
    # Numbers would be read as seconds since 1970, and a date would silently be midnight somewhere.
    if isinstance(value, str) and "T" not in value.upper().replace(" ", "T", 1):
        raise PydanticCustomError("invalid_datetime", "A time has a date, a time of day and an offset (RFC 3339).")
    if not isinstance(value, (str, datetime)):
        raise PydanticCustomError("invalid_datetime", "A time is a text as RFC 3339 has it.")
    return value


def _read_due(value: Any, read_moment: ValidatorFunctionWrapHandler) -> datetime | Day:
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        moment: datetime = read_moment(value)
        return moment
    try:
        day = date.fromisoformat(value)
    except ValueError:
        raise PydanticCustomError("invalid_datetime", "There is no such day.") from None
    if not FIRST_DAY <= day <= LAST_DAY:
        raise PydanticCustomError("datetime_out_of_range", "Times lie between the years 1970 and 3000.")
    return Day(day)


class _MomentOrDay:
    """A time, or a date alone, which stands for a day in the time zone of the account."""

    def __get_pydantic_core_schema__(self, _source: type, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(_read_due, handler.generate_schema(Moment))

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, _handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        # The time first: a program that asks of a value whether it's a date is told so by a time too.
        return {"anyOf": [{"type": "string", "format": each} for each in ("date-time", "date")]}


def _require_time_zone(name: str) -> str:
    if name not in time_zone_names():
        raise PydanticCustomError("unknown_time_zone", "There is no time zone of this name; one is Europe/Berlin.")
    return name


def _as_integer(value: Any) -> Any:
    # To JSON and its schemas, 7.0 is an integer like 7.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _in_range(moment: datetime) -> datetime:
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:
        moment = datetime.max.replace(tzinfo=UTC)
    if not EARLIEST <= moment < LATEST:
        raise PydanticCustomError("datetime_out_of_range", "Times lie between the years 1970 and 3000.")
    return moment


def tell_nothing_of_repeats(schema: JsonSchemaValue) -> None:
    """For a set: what is named twice is taken once, and not refused as a schema of unique items would have it."""
    del schema["uniqueItems"]


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


def _refuse_common(password: str) -> str:
    if is_common(password):
        raise PydanticCustomError("common_password", "This password is one of the most frequent ones.")
    return password


def name_in(address: str) -> str:
    """Make a display name from a normalized address: the part before the @.

    It has no spaces and no control characters, since `normalize_email` takes no quoted and no international ones.
    """
    return address.rpartition("@")[0][:LONGEST_NAME]


# Of alternatives. A list of them is no longer than there are, however often it names each.
EACH_ONCE = AfterValidator(lambda values: tuple(dict.fromkeys(values)))


# Lengths come first, while pydantic still knows that it measures a text and says "characters".
def _at_most(characters: int) -> StringConstraints:
    return StringConstraints(max_length=characters)


Email = Annotated[
    str,
    _at_most(254),
    AfterValidator(normalize_email),
    WithJsonSchema({"type": "string", "format": "email", "maxLength": 254}),
]
Password = Annotated[
    str,
    StringConstraints(min_length=MIN_PASSWORD_LENGTH, max_length=128),
    CLEAN,
    AfterValidator(_refuse_common),
    Field(description="None of the most frequent ones, and not one's own name or address."),
]
DisplayName = Annotated[str, _at_most(LONGEST_NAME), NAME, AfterValidator(without_invisible)]
Role = Annotated[str, _at_most(100), ONE_LINE]
Skill = Annotated[str, _at_most(50), NAME]
Skills = Annotated[list[Skill], Field(max_length=50)]
Title = Annotated[str, _at_most(200), NAME]
Description = Annotated[str, _at_most(20_000), CLEAN]
Category = Annotated[str, _at_most(50), NAME]
TokenName = Annotated[str, _at_most(100), NAME, AfterValidator(without_invisible)]
# A search field that nobody has filled in doesn't filter.
SearchWords = Annotated[
    Annotated[str, _at_most(MAX_WORD_LENGTH), ONE_LINE] | None, AfterValidator(lambda words: words or None)
]
TestMessage = Annotated[str, _at_most(200), ONE_LINE]
ImpactPoints = Annotated[int, Field(ge=0, le=1_000_000, strict=True), BeforeValidator(_as_integer)]
Moment = Annotated[AwareDatetime, BeforeValidator(_require_text), AfterValidator(_in_range)]
# Settled by `app/services/due_times.py`, which knows where the account is.
Due = Annotated[datetime | Day, _MomentOrDay()]
TimeZone = Annotated[
    str,
    _at_most(64),
    AfterValidator(_require_time_zone),
    Field(
        description="A name of the IANA time zone database.",
        examples=["Europe/Berlin"],
        json_schema_extra={"pattern": "^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$"},
    ),
]
FutureMoment = Annotated[Moment, AfterValidator(_in_future)]
ChatText = Annotated[str, StringConstraints(min_length=1, max_length=4_000), SEEN]
LeaseSeconds = Annotated[int, Field(ge=30, le=86_400, strict=True), BeforeValidator(_as_integer)]
WaitSeconds = Annotated[float, Field(ge=0, le=30, strict=True)]
# As large as the column is; a JSON number of this size is still exact everywhere.
Seq = Annotated[int, Field(ge=0, le=2**53 - 1)]


class PageQuery(Strict):
    """Which page of a list. The cursor comes from the `Link` header of the page before."""

    limit: int = Field(default=50, ge=1, le=200)
    cursor: str | None = Field(default=None, min_length=1, max_length=1_000)
