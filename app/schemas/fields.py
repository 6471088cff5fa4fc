"""The kinds of values that come in from outside, each refusing what can't be stored or shown."""

import re
from dataclasses import dataclass
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
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    StringConstraints,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, PydanticKnownError, core_schema

# PostgreSQL can't store NUL, and the other control characters confuse terminals and logs.
_CONTROL = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"
# Line breaks, and marks that make a line read otherwise than it is written.
_LINE_BREAK = r"\t\r\n\u2028\u2029\u202a-\u202e\u2066-\u2069"
# They are no characters, and UTF-8 has none; so a schema, which speaks of characters, can't tell of them.
_SURROGATE = r"\ud800-\udfff"
# What is taken off the ends of a line. `\s` is something else in each library.
_BLANK = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
# HIVE runs in internal networks, where names such as `corp.local` or `team.test` are real. This is the library's own
# way to allow them.
email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()
LONGEST_NAME = 100
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(3000, 1, 1, tzinfo=UTC)


class Strict(BaseModel):
    """The base of every body and every set of query parameters: what isn't known is refused by name."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


@dataclass(frozen=True, slots=True)
class _Without:
    """A text that has none of these characters, in a form that OpenAPI can tell of too."""

    characters: str
    complaint: str

    @property
    def pattern(self) -> str:
        return f"^[^{self.characters}]*$"

    def read(self, text: str) -> str:
        if re.search(f"[{self.characters}{_SURROGATE}]", text):
            raise PydanticCustomError("invalid_text", self.complaint)
        return text

    def __get_pydantic_core_schema__(self, source: type, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.read, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "pattern": self.pattern}


class _LineWithout(_Without):
    """The same of a text whose ends are trimmed. It's measured as it came, for that is what a schema measures."""

    @property
    def pattern(self) -> str:
        return f"^[{_BLANK}]*(?:{self._trimmed})?[{_BLANK}]*$"

    @property
    def _trimmed(self) -> str:
        end = f"[^{self.characters}{_BLANK}]"
        return f"{end}(?:[^{self.characters}]*{end})?"

    def read(self, text: str) -> str:
        return super().read(re.sub(rf"\A[{_BLANK}]+|[{_BLANK}]+\Z", "", text))


class _NameWithout(_LineWithout):
    """The same of one that is not empty then."""

    @property
    def pattern(self) -> str:
        return f"^[{_BLANK}]*{self._trimmed}[{_BLANK}]*$"

    def read(self, text: str) -> str:
        name = super().read(text)
        if not name:
            raise PydanticKnownError("string_too_short", {"min_length": 1})
        return name


def _require_text(value: Any) -> Any:
    # Numbers would be read as seconds since 1970, and a date would silently be midnight somewhere.
    if isinstance(value, str) and "T" not in value.upper().replace(" ", "T", 1):
        raise PydanticCustomError("invalid_datetime", "A time has a date, a time of day and an offset (RFC 3339).")
    if not isinstance(value, (str, datetime)):
        raise PydanticCustomError("invalid_datetime", "A time is a text as RFC 3339 has it.")
    return value


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


def name_in(address: str) -> str:
    """Make a display name from a normalized address: the part before the @.

    It has no spaces and no control characters, since `normalize_email` takes no quoted and no international ones.
    """
    return address.rpartition("@")[0][:LONGEST_NAME]


# Lengths come first, while pydantic still knows that it measures a text and says "characters".
CLEAN = _Without(_CONTROL, "Control characters and lone surrogates are not allowed.")
_LINE = "Line breaks, control characters and marks of direction are not allowed here."
ONE_LINE = _LineWithout(_CONTROL + _LINE_BREAK, _LINE)
NAME = _NameWithout(_CONTROL + _LINE_BREAK, _LINE)

# Of alternatives. A list of them is no longer than there are, however often it names each.
EACH_ONCE = AfterValidator(lambda values: tuple(dict.fromkeys(values)))


def _at_most(characters: int) -> StringConstraints:
    return StringConstraints(max_length=characters)


Email = Annotated[
    str,
    _at_most(254),
    AfterValidator(normalize_email),
    WithJsonSchema({"type": "string", "format": "email", "maxLength": 254}),
]
Password = Annotated[str, StringConstraints(min_length=8, max_length=128), CLEAN]
DisplayName = Annotated[str, _at_most(LONGEST_NAME), NAME]
Role = Annotated[str, _at_most(100), ONE_LINE]
Skill = Annotated[str, _at_most(50), NAME]
Skills = Annotated[list[Skill], Field(max_length=50)]
Title = Annotated[str, _at_most(200), NAME]
Description = Annotated[str, _at_most(20_000), CLEAN]
Category = Annotated[str, _at_most(50), NAME]
TokenName = Annotated[str, _at_most(100), NAME]
SearchWords = Annotated[str, _at_most(200), NAME]
TestMessage = Annotated[str, _at_most(200), ONE_LINE]
ImpactPoints = Annotated[int, Field(ge=0, le=1_000_000, strict=True), BeforeValidator(_as_integer)]
Moment = Annotated[AwareDatetime, BeforeValidator(_require_text), AfterValidator(_in_range)]
FutureMoment = Annotated[Moment, AfterValidator(_in_future)]
ChatText = Annotated[str, StringConstraints(min_length=1, max_length=4_000), CLEAN]
LeaseSeconds = Annotated[int, Field(ge=30, le=86_400, strict=True), BeforeValidator(_as_integer)]
# As large as the column is; a JSON number of this size is still exact everywhere.
Seq = Annotated[int, Field(ge=0, le=2**53 - 1)]


class PageQuery(Strict):
    """Which page of a list. The cursor comes from the `Link` header of the page before."""

    limit: int = Field(default=50, ge=1, le=200)
    cursor: str | None = Field(default=None, min_length=1, max_length=1_000)
