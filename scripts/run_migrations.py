"""Bring the database of the settings, empty or old, to the newest revision.

Exit code 1 and a sentence if that fails, 2 for any argument: there are none.
"""

import sys

from app.config import ConfigurationError, load_settings
from app.core.logging import configure_logging
from app.embedded import EmbeddedError
from app.migrate import MigrationError, migrate


def main(arguments: list[str]) -> int:
    """The exit code."""
    if arguments:
        print(
            f"run_migrations: there is no argument {arguments[0]!r}; `make revision` writes new revisions.",
            file=sys.stderr,
        )
        return 2
    try:
        settings = load_settings()
        configure_logging(settings, "migrate")
        migrate(settings)
    except (ConfigurationError, EmbeddedError, MigrationError) as error:
        print(f"run_migrations: {error}", file=sys.stderr)
        return 1
    print("The database is at the newest revision.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
