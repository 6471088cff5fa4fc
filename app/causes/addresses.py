"""What is wrong with an address before anybody connects to it. No sentence has a piece of user, password or host."""

import os
import re
from urllib.parse import SplitResult, parse_qsl, urlsplit

HOW_TO_WRITE = "its host or port can't be read; write % # / ? @ : in a password as %25 %23 %2F %3F %40 %3A"
POSTGRES_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
REDIS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_UNKNOWN_ARGUMENT = re.compile(r"unexpected keyword argument '(\w+)'")


def fault_of_database_url(url: str) -> str | None:
    """None when there is nothing wrong that can be seen so."""
    parts = _split(url)
    if parts is None:
        return HOW_TO_WRITE
    return _missing_file(parts, POSTGRES_FILES)


def fault_of_redis_url(url: str) -> str | None:
    """None when there is nothing wrong that can be seen so."""
    parts = _split(url)
    if parts is None:
        return HOW_TO_WRITE
    database = parts.path.strip("/")
    if parts.scheme != "unix" and database and not database.isdecimal():
        return "what follows the host has to be the number of a database, such as /0"
    return _unknown_option(url) or _missing_file(parts, REDIS_FILES)


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        # Several hosts are an address as well, whose ports Python can't tell.
        if "," not in parts.netloc:
            parts.port  # noqa: B018  # It raises for what is no number.
    except ValueError:
        return None
    return parts


def _unknown_option(url: str) -> str | None:
    from redis.asyncio import Redis  # noqa: PLC0415  # Programs that never come here do without it.

    try:
        Redis.from_url(url).connection_pool.make_connection()  # type: ignore[no-untyped-call]
    except TypeError as error:
        found = _UNKNOWN_ARGUMENT.search(str(error))
        return f"it has the option {found[1]}, which nobody knows" if found else "it has an option that nobody knows"
    except ValueError as error:
        found = re.search(r"for '(\w+)'", str(error))
        return f"its option {found[1]} has a value that can't be read" if found else HOW_TO_WRITE
    except Exception:  # noqa: BLE001  # Each option has errors of its own.
        return "one of its options can't be used"
    return None


def _missing_file(parts: SplitResult, options: tuple[str, ...]) -> str | None:
    given = dict(parse_qsl(parts.query))
    for option in options:
        path = given.get(option)
        if path and not os.access(path, os.R_OK):
            return f"its option {option} names a file that is not there or can't be read: {path}"
    return None
