"""Taking out of a name what nobody sees, so that two names that look the same are the same."""

import unicodedata
from collections.abc import Iterator

from pydantic_core import PydanticCustomError

JOINERS = "\u200c\u200d"
KEYCAP = "\u20e3"
BLACK_FLAG = "\U0001f3f4"
# They show nothing, and are no format characters to Unicode.
_SHOWS_NOTHING = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0")
# Format characters that are seen: signs before numbers in Arabic, Syriac and Kaithi.
_SEEN_FORMATS = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
_SYMBOLS = frozenset({"So", "Sk", "Sm"})


def without_invisible(name: str) -> str:
    """The name without characters that show nothing, but for those that its emoji and its script need."""
    shown = "".join(_seen_of(name)).strip()
    if not shown:
        raise PydanticCustomError("invisible_text", "This text has nothing that can be seen.")
    return shown


def _seen_of(name: str) -> Iterator[str]:
    previous = ""
    for letter, following in zip(name, [*name[1:], ""], strict=True):
        if _is_seen(letter, previous, following):
            yield letter
            previous = letter


def _is_seen(letter: str, previous: str, following: str) -> bool:
    if letter in JOINERS:
        return bool(previous) and _joins(previous)
    if _is_variation_selector(letter):
        return following == KEYCAP or (bool(previous) and unicodedata.category(previous) in _SYMBOLS)
    if _is_tag(letter):
        return previous == BLACK_FLAG or _is_tag(previous)
    return letter in _SEEN_FORMATS or (letter not in _SHOWS_NOTHING and unicodedata.category(letter) != "Cf")


def _joins(letter: str) -> bool:
    """Whether a joiner after it changes what is seen: in emoji, in Arabic and its like, and after Indic vowel signs."""
    is_mark = unicodedata.category(letter) in {"Mn", "Mc"} and not "\u0300" <= letter <= "\u036f"
    return unicodedata.category(letter) in _SYMBOLS or is_mark or unicodedata.bidirectional(letter) in {"AL", "R"}


def _is_variation_selector(letter: str) -> bool:
    return "\ufe00" <= letter <= "\ufe0f" or "\U000e0100" <= letter <= "\U000e01ef"


def _is_tag(letter: str) -> bool:
    return "\U000e0020" <= letter <= "\U000e007f"
