"""Why PostgreSQL can't be used."""

import errno
import re
from collections.abc import Callable
from typing import Any

import asyncpg

from app.causes.cause import Cause, chain
from app.causes.network import Server, why_unreachable

POSTGRES = Server("PostgreSQL", "DATABASE_URL", "sslrootcert in DATABASE_URL")
OLDEST = 15
UNMIGRATED = frozenset({"42P01", "42703"})
POOLED_BY_TRANSACTION = Cause(
    "Between HIVE and PostgreSQL is a pooler that gives each transaction another connection (PgBouncer with "
    "pool_mode=transaction), where locks and prepared statements get lost: have DATABASE_URL lead to PostgreSQL "
    "itself, for HIVE has a pool of its own.",
    may_pass=False,
)
REFUSED_SETTINGS = Cause(
    "What DATABASE_URL leads to is a pooler (such as PgBouncer) that refuses HIVE's settings of a connection: have "
    "DATABASE_URL lead to PostgreSQL itself, for HIVE has a pool of its own.",
    may_pass=False,
)
TOO_OLD = Cause(f"This PostgreSQL is too old: HIVE needs version {OLDEST} or newer.", may_pass=False)
TOO_MANY = (
    "PostgreSQL has no connection left for HIVE (too many connections): raise max_connections or end other programs'"
    " connections, or lower DATABASE_POOL_SIZE."
)
TOO_MANY_OF_ROLE = (
    "PostgreSQL lets HIVE's role, or all of this database, have no more connections (too many connections): raise the "
    "CONNECTION LIMIT, or lower DATABASE_POOL_SIZE."
)
NO_POSTGRES = Cause(
    "What listens at the address in DATABASE_URL did not answer as PostgreSQL does: correct host and port."
)
NO_TLS = Cause(
    "What listens at the address in DATABASE_URL offers no TLS, though sslmode asks for it, or is no PostgreSQL: set "
    "ssl=on there, ask for less by sslmode, or correct host and port."
)
BAD_ADDRESS = Cause(
    "DATABASE_URL can't be read: write it as postgresql://user:password@host:5432/hive, and % # / ? @ : in a password "
    "as %25 …",
    may_pass=False,
)
# Those of the driver's own sentences that have nothing of the address in them but names of options and files.
_PLAIN = re.compile(r"`(sslmode|sslnegotiation|gsslib)`|root certificate file|TLS version")
_QUOTED = re.compile(r'"([\w.]{1,63})"')


def why_postgres(error: BaseException) -> Cause:
    """The cause of what the driver raised, or what was raised because of it."""
    if cause := known_why_postgres(error):
        return cause
    if isinstance(error, ValueError):
        return BAD_ADDRESS
    return Cause("PostgreSQL can't be used, for a reason that HIVE doesn't know.")


def known_why_postgres(error: BaseException) -> Cause | None:
    """None for what isn't about the way to PostgreSQL, or its state."""
    return next((cause for found in chain(error) if (cause := _why(found))), None)


def is_unmigrated(error: BaseException) -> bool:
    """Whether a table or column is missing."""
    return any(getattr(found, "sqlstate", None) in UNMIGRATED for found in chain(error))


def _why(error: BaseException) -> Cause | None:
    for kind, why in _BY_KIND:
        if isinstance(error, kind):
            return why(error)
    return None


def _why_on_the_way(error: OSError) -> Cause | None:
    return _why_cut_off(error) or why_unreachable(error, POSTGRES)


def _why_cut_off(error: OSError) -> Cause | None:
    """What asyncpg itself says, without a number, of a server that doesn't do as it should."""
    if error.errno is not None or not isinstance(error, ConnectionError):
        return None
    if "SSL" in str(error):
        return NO_TLS
    return (
        why_unreachable(ConnectionResetError(errno.ECONNRESET, ""), POSTGRES)
        if "connection_lost" in str(error)
        else None
    )


def _why_misread(error: asyncpg.InterfaceError) -> Cause | None:
    message = str(error)
    if "authentication method" in message:
        return Cause("PostgreSQL asks for a kind of sign-in that HIVE doesn't know: use scram-sha-256.", may_pass=False)
    if not isinstance(error, asyncpg.ClientConfigurationError):
        # About the way in which a connection was used, or that it's closed.
        return None
    if message.startswith("target_session_attrs"):
        return Cause(
            "DATABASE_URL can't be used: target_session_attrs has none of its values, such as read-write.",
            may_pass=False,
        )
    if _PLAIN.search(message):
        return Cause(f"DATABASE_URL can't be used: {message.partition(chr(10))[0].rstrip('.')}.", may_pass=False)
    return BAD_ADDRESS


def _why_refused(error: asyncpg.PostgresError) -> Cause | None:
    sqlstate = error.sqlstate or ""
    by_state = _BY_STATE.get(sqlstate)
    if by_state is None:
        return _BY_CLASS.get(sqlstate[:2])
    return by_state(str(error)) if callable(by_state) else by_state


def _why_protocol(message: str) -> Cause:
    if "startup parameter" in message:
        return REFUSED_SETTINGS
    if "prepared statement" in message:
        return POOLED_BY_TRANSACTION
    if "max_client_conn" in message or "no more connections" in message:
        return Cause("The pooler that DATABASE_URL leads to has no connection left (too many connections).")
    if "authentication" in message or "password" in message:
        return Cause("The pooler that DATABASE_URL leads to refuses the user or the password in it.", may_pass=False)
    if "no such database" in message or "database" in message:
        return Cause("The pooler that DATABASE_URL leads to doesn't know the database in it.", may_pass=False)
    return Cause("What DATABASE_URL leads to speaks PostgreSQL's protocol in another way than HIVE.")


def _why_no_role(message: str) -> Cause:
    if "pg_hba.conf" in message:
        sentence = (
            "PostgreSQL's pg_hba.conf lets this user not come to this database from here, or only with encryption: add "
            "a line there, or sslmode=require to DATABASE_URL."
        )
    elif "not permitted to log in" in message:
        sentence = "PostgreSQL's role for HIVE may not sign in: ALTER ROLE … LOGIN lets it."
    elif "certificate" in message:
        sentence = "PostgreSQL wants a certificate of HIVE's: name it by sslcert and sslkey in DATABASE_URL."
    else:
        sentence = (
            "PostgreSQL has no such role as the user in DATABASE_URL, or doesn't let it in: create it, or correct it."
        )
    return Cause(sentence, may_pass=False)


def _why_full(message: str) -> Cause:
    return Cause(TOO_MANY_OF_ROLE if "role" in message or "for database" in message else TOO_MANY)


def _why_not_now(message: str) -> Cause:
    if "starting up" in message:
        return Cause("PostgreSQL is starting up; HIVE waits for it.")
    if "recovery" in message or "standby" in message:
        return Cause("PostgreSQL is recovering, or is a standby that takes no connections; HIVE waits for it.")
    return Cause("PostgreSQL is shutting down; HIVE waits for it.")


def _why_unknown_option(message: str) -> Cause:
    named = _QUOTED.search(message)
    option = f"option {named[1]}" if named else "an option"
    return Cause(f"DATABASE_URL has the {option}, which PostgreSQL doesn't know: remove or correct it.", may_pass=False)


def _why_bad_value(message: str) -> Cause | None:
    if "parameter" not in message:
        return None
    named = _QUOTED.search(message)
    option = f"its option {named[1]}" if named else "an option"
    return Cause(f"DATABASE_URL can't be used: {option} has a value that PostgreSQL refuses.", may_pass=False)


def _why_undefined(message: str) -> Cause | None:
    return _why_unknown_option(message) if "configuration parameter" in message else None


_BY_STATE: dict[str, Cause | Callable[[str], Cause | None]] = {
    "08P01": _why_protocol,
    "0A000": lambda message: TOO_OLD if "protocol" in message else None,
    "22023": _why_bad_value,
    "25006": Cause(
        "PostgreSQL takes no changes: it is a standby, or default_transaction_read_only is on; have DATABASE_URL lead "
        "to the primary."
    ),
    "26000": POOLED_BY_TRANSACTION,
    "28000": _why_no_role,
    "28P01": Cause("PostgreSQL refuses the user or the password in DATABASE_URL: correct them.", may_pass=False),
    "3D000": Cause(
        "PostgreSQL has no such database as DATABASE_URL names: scripts/init_db.py makes it.", may_pass=False
    ),
    "42501": Cause(
        "PostgreSQL's role for HIVE lacks a right: make it the owner of the database and its tables, or grant it the "
        "right.",
        may_pass=False,
    ),
    "42704": _why_undefined,
    **dict.fromkeys(UNMIGRATED, Cause("The database is not migrated yet; run: hive migrate.", may_pass=False)),
    "42P05": POOLED_BY_TRANSACTION,
    "53000": Cause("PostgreSQL is short of resources."),
    "53100": Cause("PostgreSQL's disk is full: make room."),
    "53200": Cause("PostgreSQL is out of memory."),
    "53300": _why_full,
    "55000": lambda message: (
        Cause("The database takes no connections.") if "not currently accepting" in message else None
    ),
    "57P01": Cause("PostgreSQL has ended the connection; it may be restarting."),
    "57P02": Cause("PostgreSQL has crashed, and recovers by itself."),
    "57P03": _why_not_now,
    "57P04": Cause("The database was dropped.", may_pass=False),
    "57P05": Cause("PostgreSQL has ended the connection, for nothing was sent on it for too long."),
}
_BY_CLASS = {
    "08": Cause("The connection to PostgreSQL broke."),
    "53": Cause("PostgreSQL is short of resources."),
    "58": Cause("PostgreSQL fails at its own files; its log says how."),
    "XX": Cause("PostgreSQL reports a fault of its own; its log says more."),
}
_BY_KIND: tuple[tuple[type[BaseException], Callable[[Any], Cause | None]], ...] = (
    (asyncpg.PostgresError, _why_refused),
    (
        asyncpg.TargetServerAttributeNotMatched,
        lambda _: Cause("No server in DATABASE_URL is of the kind that target_session_attrs asks for."),
    ),
    (asyncpg.InternalClientError, lambda _: NO_POSTGRES),
    (OSError, _why_on_the_way),
    (asyncpg.InterfaceError, _why_misread),
)
