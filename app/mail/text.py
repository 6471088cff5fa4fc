"""Texts of other people, such as titles and what a server says, where only one line may stand."""

import unicodedata

# Controls, line and paragraph separators, and halves of characters, which no encoding has.
_BREAKING = frozenset({"Cc", "Zl", "Zp", "Cs"})
# Marks that make a line read otherwise than it is written.
_DIRECTION = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def one_line(text: str) -> str:
    """The text without line breaks and control characters, and with single spaces."""
    return " ".join("".join(" " if _is_breaking(character) else character for character in text).split())


def _is_breaking(character: str) -> bool:
    return character in _DIRECTION or unicodedata.category(character) in _BREAKING
