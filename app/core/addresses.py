"""When two e-mail addresses are one account's."""

import unicodedata


def address_key(address: str) -> str:
    """Return what all spellings of an address have in common: the same in every process and on every database.

    PostgreSQL's `lower()` depends on the locale of the database. A Turkish one makes a dotless ı of an I.
    """
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", address).casefold())
