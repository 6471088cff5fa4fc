"""The kinds of values that come in from outside: what each takes, makes of it, and refuses."""

import math
import re
from contextlib import nullcontext
from datetime import UTC, date, datetime
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import TypeAdapter, ValidationError

from app.core.time_zones import Day, time_zone_names
from app.schemas import fields
from app.schemas.auth import UserRegister
from app.schemas.fields import Strict


@cache
def adapter_of(kind: Any) -> TypeAdapter[Any]:
    """What reads values of this kind. To make one takes longer than the rest of a test."""
    return TypeAdapter(kind)


def read(kind: Any, value: object) -> Any:
    return adapter_of(kind).validate_python(value)


def refused(kind: Any, value: object) -> str:
    """With which code the value is refused."""
    with pytest.raises(ValidationError) as error:
        read(kind, value)
    return str(error.value.errors()[0]["type"])


TEXTS = {
    "Title": (fields.Title, 200),
    "Description": (fields.Description, 20_000),
    "Category": (fields.Category, 50),
    "DisplayName": (fields.DisplayName, 100),
    "Role": (fields.Role, 100),
    "ChatText": (fields.ChatText, 4_000),
    "Password": (fields.Password, 128),
}
LINES = ["Title", "Category", "DisplayName", "Role"]


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize(
    "character", ["\x00", "\x01", "\x08", "\x0b", "\x1b", "\x1f", "\x7f", "\x85", "\x9b", "\ud800"], ids=ascii
)
def test_no_text_has_control_characters_or_lone_surrogates(name: str, character: str) -> None:
    kind, _ = TEXTS[name]

    assert refused(kind, f"a text{character}of words") in {"invalid_text", "string_unicode"}


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_has_its_greatest_length(name: str) -> None:
    kind, longest = TEXTS[name]

    assert read(kind, "🐝" * longest) == "🐝" * longest
    assert refused(kind, "🐝" * (longest + 1)).endswith("too_long")


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("character", ["\n", "\r", "\t", "\u2028", "\u2029"], ids=ascii)
def test_a_line_is_one(name: str, character: str) -> None:
    assert refused(TEXTS[name][0], f"two{character}lines") == "invalid_text"


@pytest.mark.parametrize("name", LINES)
def test_a_line_has_no_space_at_its_ends(name: str) -> None:
    assert read(TEXTS[name][0], "  a line \u00a0") == "a line"


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize(
    "around",
    ["", "\n", "\x85", "\x1f", "\u3000", "\ufeff", "\u200b", "\u2028", "\u202e", "\u200d", "\u0301"],
    ids=ascii,
)
@pytest.mark.parametrize("text", ["", "a", "two words", "\u200f", "\ufe0f\u0308"])
def test_the_schema_of_a_text_tells_what_is_taken(name: str, around: str, text: str) -> None:
    adapter = adapter_of(TEXTS[name][0])
    schema = adapter.json_schema()

    full = "x" * schema["maxLength"]
    for given in (around, around + text, text + around, f"a{around}b", full[:-1] + around, full + around):
        is_told = (
            schema.get("minLength", 0) <= len(given) <= schema["maxLength"]
            and re.search(schema["pattern"], given) is not None
        )
        with nullcontext() if is_told else pytest.raises(ValidationError):
            adapter.validate_python(given)


@pytest.mark.parametrize("name", ["Title", "Category", "DisplayName"])
@pytest.mark.parametrize("empty", ["", " ", "\u3000\u00a0"])
def test_a_name_is_not_empty(name: str, empty: str) -> None:
    assert refused(TEXTS[name][0], empty).endswith("too_short")


INVISIBLE = {
    "zero-width space": "\u200b",
    "zero-width joiners": "\u200c\u200d",
    "marks of direction": "\u200e\u200f\u061c",
    "byte order mark": "\ufeff",
    "word joiner": "\u2060",
    "invisible operators": "\u2061\u2062\u2063\u2064",
    "Hangul fillers": "\u115f\u1160\u3164\uffa0",
    "Braille blank": "\u2800",
    "soft hyphens": "\xad\xad",
    "Mongolian separators": "\u180b\u180e\u180f",
    "variation selectors": "\ufe00\ufe0f\U000e0100",
    "tag characters": "\U000e0048\U000e0049\U000e007f",
    "musical controls": "\U0001d173\U0001d17a",
    "accents without a letter": "\u0301\u20dd\u034f",
    "white space around them": " \u200b\t\u3000\u200d ",
}
NAMES = {
    "Title": fields.Title,
    "Category": fields.Category,
    "DisplayName": fields.DisplayName,
    "Skill": fields.Skill,
    "TokenName": fields.TokenName,
    "ChatText": fields.ChatText,
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", INVISIBLE.values(), ids=INVISIBLE)
def test_text_of_invisible_characters_alone_is_refused(name: str, text: str) -> None:
    assert refused(NAMES[name], text) in {"string_too_short", "invisible_text"}


@pytest.mark.parametrize("text", INVISIBLE.values(), ids=INVISIBLE)
def test_role_of_invisible_characters_alone_is_empty(text: str) -> None:
    assert read(fields.Role, text) == ""


@pytest.mark.parametrize("blank", [" ", "\u200b", "\ufeff", "\u2060", "\xad", "\u2800", "\u3164"], ids=ascii)
def test_blank_characters_are_trimmed_from_the_ends(blank: str) -> None:
    assert read(fields.Title, f"{blank} a{blank}title {blank}") == f"a{blank}title"


@pytest.mark.parametrize(
    "text",
    [
        "Cafe\u0301",
        "\u2764\ufe0f",
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "\u0d28\u0d4d\u200d",
        "C++\u200e",
        "\U0001f468\u200d\U0001f469",
        "\uffff",
        "\u0e01\u0e34\u0e19",
    ],
    ids=ascii,
)
def test_invisible_characters_stay_where_visible_ones_need_them(text: str) -> None:
    assert read(fields.Title, text) == text


@pytest.mark.parametrize("field", [fields.DisplayName, fields.TokenName])
@pytest.mark.parametrize(
    "hidden",
    [
        *"\u200b\u2060\ufeff\xad\u180e\u200e\u200f\u061c\u2063\u206a\u034f\u3164\u2800\u115f\u200d\u200c\ufe0f",
        *"\U000e0041\U000e0101",
        "\u200d\ufe0f\u200b",
    ],
    ids=ascii,
)
def test_two_names_that_look_the_same_are_the_same(field: Any, hidden: str) -> None:
    for disguised in (f"A{hidden}da", f"{hidden}Ada", f"Ada{hidden}", f"Ada {hidden}"):
        assert read(field, disguised) == "Ada"


def test_a_name_of_nothing_that_is_seen_is_refused() -> None:
    assert refused(fields.DisplayName, "\U00013430") == "invisible_text"


@pytest.mark.parametrize(
    "name",
    [
        "\U0001f468\u200d\U0001f469",
        "\u2764\ufe0f\u200d\U0001f525",
        "1\ufe0f\u20e3",
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "\U0001f469\U0001f3fd\u200d\U0001f680",
        "\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "\u0d28\u0d4d\u200d",
        "\u0915\u094d\u200d\u0937",
        "Zoe\u0308",
    ],
    ids=ascii,
)
def test_a_name_keeps_what_its_script_and_its_emoji_need(name: str) -> None:
    assert read(fields.DisplayName, name) == name


@pytest.mark.parametrize("mark", ["\u202a", "\u202e", "\u2066", "\u2069"], ids=ascii)
@pytest.mark.parametrize("name", LINES)
def test_name_with_override_of_direction_is_refused(name: str, mark: str) -> None:
    assert refused(TEXTS[name][0], f"gnp{mark}exe") == "invalid_text"


@pytest.mark.parametrize("text", ["", " leading", "two\nlines\tand a tab", "\u202e right to left", "e\u0301"])
def test_a_longer_text_is_kept_as_it_is(text: str) -> None:
    assert read(fields.Description, text) == text


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("value", [1, 1.5, True, None, ["a"], {}])
def test_a_text_is_a_text(name: str, value: object) -> None:
    assert refused(TEXTS[name][0], value) == "string_type"


def test_a_password_is_kept_to_the_letter_and_has_ten() -> None:
    assert read(fields.Password, "  is ten  ") == "  is ten  "
    assert refused(fields.Password, "has nine!").endswith("too_short")


@pytest.mark.parametrize("value", [0, 1, 1_000_000, 7.0])
def test_points_are_whole_numbers_within_bounds(value: int) -> None:
    assert read(fields.ImpactPoints, value) == value


@pytest.mark.parametrize(
    "value",
    [-1, 1_000_001, 2**63, 10**400, True, False, 1.5, 1e300, float("nan"), float("inf"), "1", None, [1]],
    ids=repr,
)
def test_nothing_else_is_points(value: object) -> None:
    assert refused(fields.ImpactPoints, value)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2030-01-02T03:04:05Z", datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2030-01-02T03:04:05+02:00", datetime(2030, 1, 2, 1, 4, 5, tzinfo=UTC)),
        ("2030-01-02 03:04:05Z", datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2030-01-02t03:04:05.123456z", datetime(2030, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)),
        ("1970-01-01T00:00:00Z", datetime(1970, 1, 1, tzinfo=UTC)),
        ("2999-12-31T23:59:59Z", datetime(2999, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_a_moment_is_told_in_utc(text: str, moment: datetime) -> None:
    found = read(fields.Moment, text)

    assert found == moment
    assert found.tzinfo == UTC


@pytest.mark.parametrize(
    "value",
    [
        "2030-01-02T03:04:05",
        "2030-01-02",
        "03:04:05Z",
        "1893456000",
        "tomorrow",
        "",
        "T",
        "2030-13-01T00:00:00Z",
        "2030-02-30T00:00:00Z",
        "2030-01-01T25:00:00Z",
        "2030-01-01T00:00:00+99:00",
        "1969-12-31T23:59:59Z",
        "3000-01-01T00:00:00Z",
        "9999-12-31T23:59:59-14:00",
        "0001-01-01T00:00:00+14:00",
        "99999-01-01T00:00:00Z",
        1893456000,
        1893456000.5,
        True,
        math.nan,
        math.inf,
        10**30,
        [],
        {},
    ],
    ids=repr,
)
def test_nothing_else_is_a_moment(value: object) -> None:
    assert refused(fields.Moment, value)


@pytest.mark.parametrize("text", ["2030-12-24", "1970-01-02", "2999-12-30", "2028-02-29"])
def test_due_time_is_a_day_when_given_a_date_alone(text: str) -> None:
    assert read(fields.Due, text) == Day(date.fromisoformat(text))


def test_due_time_is_a_moment_when_given_a_time() -> None:
    assert read(fields.Due, "2030-12-24T10:00:00+01:00") == datetime(2030, 12, 24, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("2030-02-30", "invalid_datetime"),
        ("2030-13-01", "invalid_datetime"),
        ("0000-01-01", "invalid_datetime"),
        ("20301224", "invalid_datetime"),
        ("2030-W52-2", "invalid_datetime"),
        ("2030-12-24Z", "invalid_datetime"),
        ("2030-12", "invalid_datetime"),
        ("\u0662\u0660\u0663\u0660-12-24", "invalid_datetime"),
        ("2030-12-24T10:00:00", "timezone_aware"),
        ("1969-12-31", "datetime_out_of_range"),
        ("3000-01-01", "datetime_out_of_range"),
        ("9999-12-31", "datetime_out_of_range"),
        (20301224, "invalid_datetime"),
    ],
    ids=ascii,
)
def test_nothing_else_is_a_due_time(value: object, code: str) -> None:
    assert refused(fields.Due, value) == code


@pytest.mark.parametrize("name", ["UTC", "Europe/Berlin", "America/Argentina/Ushuaia", "Etc/GMT+12", "US/Pacific"])
def test_time_zone_is_named_as_iana_names_it(name: str) -> None:
    assert read(fields.TimeZone, name) == name


@pytest.mark.parametrize("name", sorted(time_zone_names()))
def test_every_time_zone_can_be_loaded_and_passes_its_schema(name: str) -> None:
    schema = adapter_of(fields.TimeZone).json_schema()

    assert ZoneInfo(name).key == name
    assert re.search(schema["pattern"], name)
    assert len(name) <= schema["maxLength"]


@pytest.mark.parametrize(
    "name",
    [
        *("", "Europe", "Berlin", "europe/berlin", "CEST", "+01:00", "Europe/Berlin ", "Europe/Berlin\x00"),
        *("../../etc/passwd", "/etc/localtime", "localtime", "posixrules", "Factory", "zones", "tzdata.zi"),
    ],
)
def test_nothing_else_is_a_time_zone(name: str) -> None:
    assert refused(fields.TimeZone, name) == "unknown_time_zone"


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("ada@example.org", "ada@example.org"),
        ("Ada.Lovelace+hive@Example.ORG", "Ada.Lovelace+hive@example.org"),
        ("ada@intranet", "ada@intranet"),
        ("ada@hive.local", "ada@hive.local"),
        ("ada@hive.test", "ada@hive.test"),
        ("ada@bücher.example", "ada@xn--bcher-kva.example"),
    ],
)
def test_an_address_is_brought_into_one_form(given: str, address: str) -> None:
    assert read(fields.Email, given) == address


@pytest.mark.parametrize(
    "value",
    [
        "",
        "ada",
        "@example.org",
        "ada@",
        "ada@@example.org",
        "ada example.org",
        "ada@exa mple.org",
        "Ada <ada@example.org>",
        "ada@example.org, grace@example.org",
        "ada@example..org",
        ".ada@example.org",
        "adä@example.org",
        "ada@example.org\n",
        "ada@example.org\x00",
        "ada\ud800@example.org",
        "ada@" + "a" * 250 + ".org",
        None,
        5,
    ],
    ids=ascii,
)
def test_nothing_else_is_an_address(value: object) -> None:
    assert refused(fields.Email, value)


def test_skills_are_some_short_lines() -> None:
    assert read(fields.Skills, [" analysis ", "蜂"]) == ["analysis", "蜂"]
    assert refused(fields.Skills, [""]).endswith("too_short")
    assert refused(fields.Skills, ["x" * 51]).endswith("too_long")
    assert refused(fields.Skills, ["x"] * 51) == "too_long"
    assert refused(fields.Skills, "analysis") == "list_type"
    assert refused(fields.Skills, [1]) == "string_type"


class Sample(Strict):
    known: int


def test_a_strict_body_names_what_it_does_not_know() -> None:
    with pytest.raises(ValidationError) as error:
        Sample.model_validate({"known": 1, "unknown": 2})

    assert [(fault["type"], fault["loc"]) for fault in error.value.errors()] == [("extra_forbidden", ("unknown",))]


def test_what_was_read_can_not_be_changed() -> None:
    with pytest.raises(ValidationError):
        Sample(known=1).known = 2  # type: ignore[misc]  # That it's refused is the point.


def test_a_fault_does_not_print_what_was_given() -> None:
    with pytest.raises(ValidationError) as error:
        UserRegister.model_validate({"email": "hunter2", "password": "hunter2", "display_name": "\x00hunter2"})

    assert "hunter2" not in str(error.value)
