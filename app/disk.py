"""How full the disk of the data folder is."""

import shutil
from pathlib import Path

FULL_PERCENT = 80


def warn_of_full_disk(data_dir: Path) -> str | None:
    """A sentence when there is little room left; None otherwise, or where there is no such folder."""
    try:
        usage = shutil.disk_usage(data_dir)
    except OSError:
        return None
    # As `df` counts it: what is kept for the superuser is no room.
    percent = 100 * usage.used / (usage.used + usage.free)
    if percent < FULL_PERCENT:
        return None
    return f"The disk of the data folder is {percent:.0f} % full: make room before PostgreSQL can write no more."
