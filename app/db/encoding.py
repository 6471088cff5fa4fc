"""Whether a database can keep every text."""

import asyncpg

from app.config import ConfigurationError
from app.db.dsn import asyncpg_dsn

NEEDED = "UTF8"
CONNECT_SECONDS = 3


class WrongEncoding(ConfigurationError):
    """In another encoding some texts can't be stored, or are stored as other characters than were sent."""


def require_utf8(encoding: str) -> None:
    """Raises `WrongEncoding`."""
    if encoding != NEEDED:
        raise WrongEncoding(
            f"the database's encoding is {encoding}, and HIVE needs {NEEDED}; make another one:"
            f" CREATE DATABASE … ENCODING '{NEEDED}' TEMPLATE template0."
        )


async def refuse_other_encodings(database_url: str) -> None:
    """Raises `WrongEncoding`. What can't be reached is not refused: it may be there later, or something says why."""
    try:
        connection = await asyncpg.connect(asyncpg_dsn(database_url), timeout=CONNECT_SECONDS)
        # The server tells it to each client that connects.
        encoding = str(connection.get_settings().server_encoding)
        await connection.close(timeout=CONNECT_SECONDS)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        return
    require_utf8(encoding)
