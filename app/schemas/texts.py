"""Which characters a text may have, and what is taken off its ends: as a check, and as a pattern for OpenAPI."""

import re
from dataclasses import dataclass

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, PydanticKnownError, core_schema

# PostgreSQL can't store NUL, and the other control characters confuse terminals and logs.
_CONTROL = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"
# Line breaks, and marks that make a line read otherwise than it is written.
_LINE_BREAK = r"\t\r\n\u2028\u2029\u202a-\u202e\u2066-\u2069"
# They are no characters, and UTF-8 has none; so a schema, which speaks of characters, can't tell of them.
_SURROGATE = r"\ud800-\udfff"
# What is taken off the ends of a line: white space (`\s` is something else in each library), and characters that look
# like it or like nothing: the soft hyphen, the space of no width, the byte order mark, the fillers of Hangul, the
# empty Braille cell.
_BLANK = r"\t-\r \x85\xa0\xad\u1680\u180e\u2000-\u200b\u2028\u2029\u202f\u205f\u2060\u2800\u3000\u3164\ufeff\uffa0"
# What can't be seen by itself and changes how its neighbours look: joiners, marks of direction, variation selectors,
# accents. A name doesn't consist of these alone. At its ends they stay, where an emoji or a letter may need them.
_UNSEEN = (
    r"\u0300-\u036f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u1ab0-\u1aff\u1dc0-\u1dff\u200c-\u200f"
    r"\u2061-\u2065\u206a-\u206f\u20d0-\u20ff\ufe00-\ufe0f\ufe20-\ufe2f\ufff0-\ufffb"
)
# Not in patterns: in JavaScript's older regular expressions characters above U+FFFF are two, and a range of them is
# a fault.
_UNSEEN_ABOVE_FFFF = r"\U0001bca0-\U0001bca3\U0001d159\U0001d173-\U0001d17a\U000e0000-\U000e0fff"


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

    def _is_seen(self, text: str) -> bool:
        return re.search(f"[^{self.characters}{_BLANK}{_UNSEEN}{_UNSEEN_ABOVE_FFFF}]", text) is not None

    @property
    def _any(self) -> str:
        return f"[^{self.characters}]*"

    @property
    def _seen(self) -> str:
        return f"[^{self.characters}{_BLANK}{_UNSEEN}]"

    def __get_pydantic_core_schema__(self, source: type, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.read, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "pattern": self.pattern}


class _SeenWithout(_Without):
    """A text that shows something. It's kept as it is."""

    @property
    def pattern(self) -> str:
        return f"^{self._any}{self._seen}{self._any}$"

    def read(self, text: str) -> str:
        return _require_seen(super().read(text), is_seen=self._is_seen(text))


class _LineWithout(_Without):
    """A text whose ends are trimmed; one that shows nothing is empty.

    It's measured as it came, for that is what a schema measures.
    """

    @property
    def pattern(self) -> str:
        return f"^[{_BLANK}]*(?:{self._end}(?:{self._any}{self._end})?)?[{_BLANK}]*$"

    @property
    def _end(self) -> str:
        return f"[^{self.characters}{_BLANK}]"

    def read(self, text: str) -> str:
        line = self._trimmed(text)
        return line if self._is_seen(line) else ""

    def _trimmed(self, text: str) -> str:
        return _Without.read(self, re.sub(rf"\A[{_BLANK}]+|[{_BLANK}]+\Z", "", text))


class _NameWithout(_LineWithout):
    """A text whose ends are trimmed, and that shows something."""

    @property
    def pattern(self) -> str:
        before, after = f"(?:[{_UNSEEN}]{self._any})?", f"(?:{self._any}{self._end})?"
        return f"^[{_BLANK}]*{before}{self._seen}{after}[{_BLANK}]*$"

    def read(self, text: str) -> str:
        name = self._trimmed(text)
        return _require_seen(name, is_seen=self._is_seen(name))


def _require_seen(text: str, *, is_seen: bool) -> str:
    if not text:
        raise PydanticKnownError("string_too_short", {"min_length": 1})
    if not is_seen:
        raise PydanticCustomError("invisible_text", "This text has nothing that can be seen.")
    return text


_CLEAN = "Control characters and lone surrogates are not allowed."
_LINE = "Line breaks, control characters and marks of direction are not allowed here."
CLEAN = _Without(_CONTROL, _CLEAN)
SEEN = _SeenWithout(_CONTROL, _CLEAN)
ONE_LINE = _LineWithout(_CONTROL + _LINE_BREAK, _LINE)
NAME = _NameWithout(_CONTROL + _LINE_BREAK, _LINE)
