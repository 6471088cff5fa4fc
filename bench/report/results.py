"""The file of one run: what was measured, when, where and of what."""

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from bench.own_system import ROOT
from bench.report.figures import Better, Figure, GoalOf

FOLDER = ROOT / "bench-results"
TOLD_OF = ("fastapi", "starlette", "uvicorn", "uvloop", "sqlalchemy", "asyncpg", "websockets", "celery", "msgspec")


@dataclass(frozen=True, slots=True)
class Results:
    figures: Sequence[Figure]
    circumstances: dict[str, str]

    @classmethod
    def of(cls, figures: Sequence[Figure], *, options: str) -> Self:
        packages = ", ".join(f"{name} {version(name)}" for name in TOLD_OF)
        circumstances = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "options": options,
            "commit": _commit(),
            "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, {platform.system()}",
            "python": platform.python_version(),
            "packages": packages,
            "load average at the end": f"{os.getloadavg()[0]:.2f}",
        }
        return cls(figures, circumstances)

    @property
    def missed(self) -> list[str]:
        return [figure.name for figure in self.figures if figure.is_met is False]

    def write(self, folder: Path = FOLDER) -> Path:
        """A new file, named by the time, so that the names are in the order of the runs."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.circumstances['at'][:19].replace(':', '')}.json"
        content = {"circumstances": self.circumstances, "figures": [_told(figure) for figure in self.figures]}
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        return path

    @classmethod
    def read(cls, path: Path) -> Self:
        content = json.loads(path.read_text())
        return cls([_figure(each) for each in content["figures"]], content["circumstances"])


def last_two(folder: Path = FOLDER) -> tuple[Path, Path]:
    """The files of the last two runs, the older one first.

    Raises:
        FileNotFoundError: there are not two.
    """
    paths = sorted(folder.glob("*.json"))
    if len(paths) < 2:
        raise FileNotFoundError(f"there are not two results in {folder}; make bench writes one")
    return paths[-2], paths[-1]


def _told(figure: Figure) -> dict[str, Any]:
    return {**asdict(figure), "ratio": figure.ratio, "is_met": figure.is_met}


def _figure(told: dict[str, Any]) -> Figure:
    values = {name: value for name, value in told.items() if name not in {"ratio", "is_met"}}
    return Figure(**values | {"better": Better(told["better"]), "goal_of": GoalOf(told["goal_of"])})


def _commit() -> str:
    try:
        command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
