"""How many parts the JSON of a request may have, judged by its text before anything is made of it."""

import re

MAX_KEYS = 100  # of an object
MAX_ITEMS = 1_000  # of an array
MAX_DEPTH = 32
MAX_VALUES = 10_000  # in all
# Each value may be a text and have a text for a key, and each text has two.
_MAX_QUOTES = 4 * MAX_VALUES

_MARK = re.compile(rb"[][{},]")


class TooManyParts(ValueError):
    """`detail` is a sentence for the caller."""

    code = "too_many_parts"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


def require_few_parts(content: bytes) -> None:
    """Raise `TooManyParts` for JSON with more parts than a request needs; leave what is no JSON to the parser."""
    if content.count(b",") < MAX_KEYS and content.count(b"{") + content.count(b"[") <= MAX_DEPTH:
        return
    content = content.replace(b"\\\\", b"").replace(b'\\"', b"")
    # To take this many texts apart would hold up everybody else for 50 ms.
    if content.count(b'"') > _MAX_QUOTES:
        raise TooManyParts(f"The JSON has more than {MAX_VALUES:,} values.")
    marks = _without_texts(content)
    if marks.count(b",") + marks.count(b"{") + marks.count(b"[") > MAX_VALUES:
        raise TooManyParts(f"The JSON has more than {MAX_VALUES:,} values.")
    _require_small_containers(marks)


def _without_texts(content: bytes) -> bytes:
    """What stands in texts separates nothing. Between quotes, of which none is escaped, every other part is a text."""
    return b"".join(content.split(b'"')[::2])


def _require_small_containers(marks: bytes) -> None:
    sizes: list[int] = []
    kinds: list[bytes] = []
    for mark in _MARK.findall(marks):
        if mark in b"[{":
            sizes.append(1)
            kinds.append(mark)
            if len(sizes) > MAX_DEPTH:
                raise TooManyParts(f"The JSON is nested more than {MAX_DEPTH} levels deep.")
        elif not sizes:
            return
        elif mark == b",":
            sizes[-1] += 1
            _require_size(kinds[-1], sizes[-1])
        else:
            sizes.pop()
            kinds.pop()


def _require_size(kind: bytes, size: int) -> None:
    if kind == b"{" and size > MAX_KEYS:
        raise TooManyParts(f"An object of the JSON has more than {MAX_KEYS} keys.")
    if kind == b"[" and size > MAX_ITEMS:
        raise TooManyParts(f"An array of the JSON has more than {MAX_ITEMS:,} items.")
