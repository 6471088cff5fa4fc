"""When two e-mail addresses are one account's."""

import pytest

from app.core.addresses import address_key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ada@example.org", "ADA@EXAMPLE.ORG"),
        ("adai@example.org", "ADAI@example.org"),
        ("e\u0301va@example.org", "\u00c9VA@example.org"),
        ("stra\u00dfe@example.org", "STRASSE@example.org"),
        ("\u03bf\u03b4\u03cc\u03c2@example.org", "\u039f\u0394\u038c\u03a3@example.org"),
        ("\uff21da@example.org", "ada@example.org"),
    ],
    ids=ascii,
)
def test_spellings_of_an_address_have_one_key(one: str, other: str) -> None:
    assert address_key(one) == address_key(other)
    assert address_key(address_key(one)) == address_key(one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("adai@example.org", "ada\u0131@example.org"),
        ("ada@example.org", "ad\u00e4@example.org"),
        ("ada+hive@example.org", "ada@example.org"),
        ("a.da@example.org", "ada@example.org"),
    ],
    ids=ascii,
)
def test_different_addresses_have_different_keys(one: str, other: str) -> None:
    assert address_key(one) != address_key(other)
