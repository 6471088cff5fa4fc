"""What `hive run` tells the API of its parts that end at once again and again: a file in the data folder."""

import json
import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

FILE_NAME = "broken-parts.json"


def tell_broken_parts(data_dir: Path, names: Collection[str]) -> None:
    """Replace what was told before. Nothing is told where nothing can be written: the log has it as well."""
    path = data_dir / FILE_NAME
    draft = path.with_suffix(f".{os.getpid()}")
    with suppress(OSError):
        if names:
            draft.write_text(json.dumps({"supervisor": os.getpid(), "parts": sorted(names)}))
            draft.replace(path)
        else:
            path.unlink(missing_ok=True)


def broken_parts(data_dir: Path) -> list[str]:
    """The names of the parts that are broken, if the `hive run` that told so still runs."""
    try:
        told = json.loads((data_dir / FILE_NAME).read_text())
        # Signal 0 asks whether there is such a process.
        os.kill(told["supervisor"], 0)
        return [str(name) for name in told["parts"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
