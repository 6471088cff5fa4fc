"""JSON of many parts: told by its text alone, as a parser would count it."""

import json
from typing import Any

import pytest

from app.core.json_limits import MAX_DEPTH, MAX_ITEMS, MAX_KEYS, MAX_VALUES, TooManyParts, require_few_parts


def an_object(keys: int) -> dict[str, int]:
    return {f"k{number}": number for number in range(keys)}


def nested(levels: int) -> str:
    return "[" * levels + "1" + "]" * levels


@pytest.mark.parametrize(
    "value",
    [
        an_object(MAX_KEYS),
        [an_object(MAX_KEYS) for _ in range(90)],
        list(range(MAX_ITEMS)),
        {"title": "," * 5_000, "description": '{[",]}' * 5_000},
        {"title": "\\" * 501, "description": '\\",' * 500},
        {"a": ['"', "[" * 100, {"b": "{" * 100}]},
        {"title": '"' * 100_000, "description": "," * 1_000},
        [{f"k{key}": "text" for key in range(90)} for _ in range(100)],
        json.loads(nested(MAX_DEPTH)),
    ],
)
def test_what_a_request_may_need_passes(value: Any) -> None:
    require_few_parts(json.dumps(value).encode())
    require_few_parts(json.dumps(value, indent=1).encode())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (json.dumps(an_object(MAX_KEYS + 1)), "100 keys"),
        (json.dumps([{"a": an_object(MAX_KEYS + 1)}]), "100 keys"),
        (json.dumps(list(range(MAX_ITEMS + 1))), "1,000 items"),
        (json.dumps([[0] * 900 for _ in range(20)]), f"{MAX_VALUES:,} values"),
        (nested(MAX_DEPTH + 1), "32 levels"),
        ('{"a":' * 50_000, "values"),
        ('"",' * 300_000, "values"),
        # More texts than there can be values and keys, whatever is around them.
        ("[" * 40 + '""' * 20_001, "values"),
        ("[" * 1_000_000, "values"),
    ],
)
def test_more_parts_than_any_request_needs_are_refused(content: str, said: str) -> None:
    with pytest.raises(TooManyParts, match=said):
        require_few_parts(content.encode())


@pytest.mark.parametrize(
    "content",
    ['{"a" ' + "," * 99, "]" * 100 + "," * 200, '"' + '\\"' * 500_000, "{" * 10 + "}" * 90 + "," * 100, "\\" * 99],
    ids=["no value", "no beginning", "a text without end", "no opening", "no JSON"],
)
def test_what_is_no_json_is_left_to_the_parser(content: str) -> None:
    require_few_parts(content.encode())
