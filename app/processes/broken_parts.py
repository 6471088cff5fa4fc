"""What `hive run` tells the API of its parts that end at once again and again: a file in the data folder.

The one that told holds a lock on the file for as long as it runs. The kernel lets go of it however the process ends,
so what a dead one has told is told from what a living one has.
"""

import fcntl
import json
import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import IO

FILE_NAME = "broken-parts.json"


class BrokenPartsFile:
    """Must be kept for as long as what it tells holds."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / FILE_NAME
        self._locked: IO[str] | None = None

    def tell(self, names: Collection[str]) -> None:
        """Replace what was told before. Nothing is told where nothing can be written: the log has it as well."""
        before = self._locked
        with suppress(OSError):
            if names:
                self._locked = self._put(json.dumps({"parts": sorted(names)}))
            else:
                self._path.unlink(missing_ok=True)
                self._locked = None
        if before is not None and before is not self._locked:
            before.close()

    def _put(self, told: str) -> IO[str]:
        """A new file each time, locked before anybody can find it."""
        draft = self._path.with_suffix(f".{os.getpid()}")
        file = draft.open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.write(told)
            file.flush()
            draft.replace(self._path)
        except OSError:
            file.close()
            raise
        return file


def broken_parts(data_dir: Path) -> list[str]:
    """The names of the parts that are broken, if the `hive run` that told so still runs."""
    try:
        with (data_dir / FILE_NAME).open() as file:
            told = json.load(file) if _is_locked(file) else {"parts": []}
        return [str(name) for name in told["parts"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _is_locked(file: IO[str]) -> bool:
    try:
        # A shared one, so that others who ask at the same time aren't taken for the one who told.
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
