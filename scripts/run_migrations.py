"""Bring the database of the settings, empty or old, to the newest revision.

Exit code 1 and a sentence if that fails.
"""

import sys

from app.config import ConfigurationError, load_settings
from app.core.logging import configure_logging
from app.embedded import EmbeddedError
from app.migrate import MigrationError, migrate


def main() -> int:
    """The exit code."""
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
    sys.exit(main())
