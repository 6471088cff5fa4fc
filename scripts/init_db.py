"""Make the database of the settings if there is none, and bring it to the newest revision.

Exit code 1 and a sentence if that fails, 2 for any argument: there are none.
"""

import asyncio
import sys

from app.backing import join_backing
from app.config import ConfigurationError, load_settings
from app.core.logging import configure_logging
from app.embedded import EmbeddedError
from app.migrate import MigrationError, create_missing_database, migrate_database


def main(arguments: list[str]) -> int:
    """The exit code."""
    if arguments:
        print(
            f"init_db: there is no argument {arguments[0]!r}; it takes its settings from the environment and .env.",
            file=sys.stderr,
        )
        return 2
    try:
        settings = load_settings()
        configure_logging(settings, "init")
        url = join_backing(settings).database_url
        asyncio.run(create_missing_database(url))
        migrate_database(url)
    except (ConfigurationError, EmbeddedError, MigrationError) as error:
        print(f"init_db: {error}", file=sys.stderr)
        return 1
    print("The database is ready.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
