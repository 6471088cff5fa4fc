"""The words of a text as they are searched for: the same for every spelling, keyboard, locale and database.

PostgreSQL compares what this module makes of texts, and never the texts themselves. So nothing depends on the locale
of the database, and no dictionary or extension is needed. See ADR 39.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from operator import add

# The query parameter `q` is no longer than this, so the beginning of a longer word is enough to find it.
MAX_WORD_LENGTH = 200
MAX_MARKS = 30
# Words of two letters are frequent, or the beginnings of frequent ones.
LONGEST_FREQUENT = 2
MOST_RARE = 3

# Marks that change how a letter is pronounced, and not which letter it is: accents, vowel points of Hebrew, Arabic and
# Syriac, variants of form. Marks of other scripts, such as the vowels of Thai or Hindi, are letters to their readers.
_ACCENTS = (
    "\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u064b-\u065f"
    "\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed\u0711\u0730-\u074a\u1ab0-\u1aff\u1dc0-\u1dff"
    "\u20d0-\u20ff\ufe00-\ufe0f\ufe20-\ufe2f\U000e0100-\U000e01ef"
)
# What readers don't see: soft hyphens, joiners, marks of direction, fillers; and the stroke that stretches Arabic.
_UNSEEN = (
    "\u00ad\u061c\u0640\u115f\u1160\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f"
)
_NO_DIFFERENCE = re.compile(f"[{_ACCENTS}{_UNSEEN}]")
_OTHER_DIGIT = re.compile("[^\\D0-9]")
# Letters that Unicode doesn't decompose, though other keyboards write them with plain ones.
_PLAIN_LETTERS = str.maketrans(
    {
        "æ": "ae",
        "œ": "oe",
        "ø": "o",
        "đ": "d",
        "ð": "d",
        "þ": "th",
        "ł": "l",
        "ħ": "h",
        "ŧ": "t",
        "ŋ": "n",
        "ı": "i",
        "ĸ": "k",
        "ɓ": "b",
        "ɖ": "d",
        "ɗ": "d",
        "ƙ": "k",
        "ƴ": "y",
        # What Persian and Urdu keyboards write for letters of Arabic ones, and the other way around.
        "\u0649": "\u064a",
        "\u06cc": "\u064a",
        "\u06a9": "\u0643",
        "\u06c1": "\u0647",
        "\u0629": "\u0647",
        "\u06d5": "\u0647",
        # Apostrophes that are letters to Unicode, and stand where others write the one that isn't.
        "\u02b9": "'",
        "\u02bb": "'",
        "\u02bc": "'",
        "\u02bd": "'",
        "\u02be": "'",
        "\u02bf": "'",
    }
)


Blocks = tuple[tuple[int, int], ...]


def _characters(blocks: Blocks, category: str) -> str:
    """Those of the blocks whose category begins so, as ranges in a class of a regular expression."""
    found: list[list[int]] = []
    for code in chain.from_iterable(range(first, last + 1) for first, last in blocks):
        if not unicodedata.category(chr(code)).startswith(category):
            continue
        if found and found[-1][1] == code - 1:
            found[-1][1] = code
        else:
            found.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in found)


# Scripts that are written without spaces between words. Chinese, Japanese and Yi:
_IDEOGRAPHS = (
    "\u3005-\u3007\u3021-\u3029\u3031-\u3035\u303b\u303c\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f\u31a0-\u31bf"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua48c\uf900-\ufaff\U00016fe0-\U00018d8f\U0001aff0-\U0001b2ff"
    "\U00020000-\U0003ffff"
)
# Thai and Lao, Burmese, Khmer, and their kin.
_SOUTHEAST_ASIAN: Blocks = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x1950, 0x19DF),
    (0x1A20, 0x1AAF),
    (0xA9E0, 0xA9FF),
    (0xAA60, 0xAADF),
)
# All but ideographs and Korean syllables, which are many and letters every one.
_OTHERS: Blocks = (
    (0x80, 0x33FF),
    (0xA490, 0xABFF),
    (0xFB00, 0xFFFF),
    (0x10000, 0x12FFF),
    (0x16A00, 0x16FFF),
    (0x1B000, 0x1FFFF),
)
_UNSPACED = _IDEOGRAPHS + _characters(_SOUTHEAST_ASIAN, "L")
_MARKS = _characters(_OTHERS, "M")
_SYMBOLS = _characters(_OTHERS, "So")
_LETTER = rf"[^\W_{_UNSPACED}]"
# A word, a run of an unspaced script, or a symbol such as an emoji.
_RUN = re.compile(
    f"{_LETTER}+(?:[{_MARKS}]+{_LETTER}*)*|(?P<unspaced>[{_UNSPACED}][{_UNSPACED}{_MARKS}]*)|[{_SYMBOLS}]"
)
_UNIT = re.compile(f".[{_MARKS}]*")
_HAS_MARKS = re.compile(f"[{_MARKS}]")
_ASCII_WORD = re.compile("[a-z0-9]+")
_BETWEEN = "' '"


def words_of(*texts: str) -> set[str]:
    """The words that texts are found by: single words, and each two letters of an unspaced run and its last one."""
    text = " ".join(texts)
    if not text.isascii():
        return {word[:MAX_WORD_LENGTH] for word in _units_of(text)}
    words = set(_ASCII_WORD.findall(text.lower()))
    # Most texts are too short for a word that has to be cut. Those that aren't ASCII can become longer.
    return words if len(text) <= MAX_WORD_LENGTH else {word[:MAX_WORD_LENGTH] for word in words}


def _units_of(text: str) -> Iterator[str]:
    for word, letters in _runs(text):
        yield from _pairs(letters)
        yield letters[-1] if letters else word


def as_tsvector(words: set[str]) -> str:
    """The words as PostgreSQL reads a `tsvector`."""
    return f"'{_BETWEEN.join(words)}'" if words else ""


def as_tsquery(text: str) -> str:
    """A search for the text, as PostgreSQL reads a `tsquery`: all its words, or words that begin so.

    A text without words makes an empty query, which finds nothing.
    """
    return " & ".join(map(_as_term, _terms_of(text).items()))


def likely_rarest(text: str) -> list[str]:
    """Searches for single words of the text that fewer tasks may have than others: the longest of several."""
    terms = _terms_of(text)
    longest = sorted((word for word in terms if len(word) > LONGEST_FREQUENT or not word.isascii()), key=len)
    return [_as_term((word, terms[word])) for word in longest[: -MOST_RARE - 1 : -1]] if len(terms) > 1 else []


def _terms_of(text: str) -> dict[str, bool]:
    """The words that are looked for, and whether others that begin so are found as well."""
    terms: dict[str, bool] = {}
    for word, letters in _runs(text):
        pairs = list(_pairs(letters))
        for pair in pairs[:-1]:
            terms[pair[:MAX_WORD_LENGTH]] = False
        terms.setdefault((pairs or [word])[-1][:MAX_WORD_LENGTH], True)
    # Whatever has a word has its beginning, which would be looked for at great cost. In order they are neighbours.
    ordered = sorted(terms)
    implied = {word for word, longer in pairwise(ordered) if terms[word] and longer.startswith(word)}
    return {word: is_beginning for word, is_beginning in terms.items() if word not in implied}


def _as_term(term: tuple[str, bool]) -> str:
    word, is_beginning = term
    return f"{_quoted(word)}:*" if is_beginning else _quoted(word)


def fold(text: str) -> str:
    """The text without differences of case, width, accents and form.

    Letters stay decomposed: a Korean syllable is then the beginning of the one that it becomes while one types.
    """
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", without_long_marks(text)).casefold())
    folded = _NO_DIFFERENCE.sub("", folded).translate(_PLAIN_LETTERS)
    return _OTHER_DIGIT.sub(lambda digit: str(unicodedata.decimal(digit[0])), folded)


def without_long_marks(text: str) -> str:
    """The text with at most `MAX_MARKS` marks in a row, as Unicode's stream-safe format has it.

    To normalize a text takes time by the square of the marks in a row, so that a request could hold up its process.
    """
    kept, marks = [], 0
    for letter in text:
        marks = marks + 1 if unicodedata.category(letter).startswith("M") else 0
        if marks <= MAX_MARKS:
            kept.append(letter)
    return "".join(kept)


def _runs(text: str) -> Iterator[tuple[str, Sequence[str]]]:
    """Each word once; with it its letters if it's a run of an unspaced script, or none."""
    folded = text.lower() if text.isascii() else fold(text)
    if folded.isascii():
        yield from ((word, ()) for word in dict.fromkeys(_ASCII_WORD.findall(folded)))
        return
    found = {run[0]: bool(run["unspaced"]) for run in _RUN.finditer(folded)}
    for run, is_unspaced in found.items():
        yield run, _letters_of(run) if is_unspaced else ()


def _letters_of(run: str) -> Sequence[str]:
    """The letters with their marks."""
    return _UNIT.findall(run) if _HAS_MARKS.search(run) else tuple(run)


def _pairs(letters: Sequence[str]) -> Iterator[str]:
    return map(add, letters, letters[1:])


def _quoted(word: str) -> str:
    # No word has a character that means something to PostgreSQL between these.
    return f"'{word}'"
