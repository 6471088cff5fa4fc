"""Where the embedded servers keep what: the data folder, and the short path that their sockets need."""

import hashlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

LONGEST_SOCKET_PATH = 103  # bytes, on macOS; Linux takes 107
LONGEST_SOCKET_NAME = ".s.PGSQL.5432"

# A path of anything else is split, quoted or decoded in different ways by the drivers that get it in a URL.
PLAIN_PATH = re.compile(r"[A-Za-z0-9/._-]+")

LARGEST_LOG = 10 * 1024 * 1024


class ServerError(Exception):
    """An embedded server can't run. The text is one sentence for the person at the terminal."""


@dataclass(frozen=True)
class Folder:
    """A data folder, by its real path. Nothing exists before `prepare`."""

    root: Path

    @classmethod
    def at(cls, path: str | os.PathLike[str]) -> "Folder":
        return cls(Path(os.path.realpath(path)))

    @property
    def runtime(self) -> Path:
        """Where the sockets are. It depends on the data folder alone, so that all its processes agree."""
        runtime = self.root / "run"
        longest = os.fsencode(runtime / LONGEST_SOCKET_NAME)
        if len(longest) <= LONGEST_SOCKET_PATH and PLAIN_PATH.fullmatch(str(runtime)):
            return runtime
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:16]
        # Not TMPDIR, which may differ between a shell and a service, and may be long itself.
        return Path(f"/tmp/hive-{os.geteuid()}-{digest}")  # noqa: S108 - `prepare` refuses one that isn't ours

    @property
    def is_runtime_elsewhere(self) -> bool:
        return self.runtime.parent != self.root

    @property
    def lock(self) -> Path:
        return self.root / "keeper.lock"

    @property
    def keeper_socket(self) -> Path:
        return self.runtime / "keeper.sock"

    @property
    def postgres_socket(self) -> Path:
        return self.runtime / ".s.PGSQL.5432"

    @property
    def valkey_socket(self) -> Path:
        return self.runtime / "valkey.sock"

    def log(self, name: str) -> Path:
        return self.root / "log" / f"{name}.log"

    def prepare(self) -> None:
        """Make the folders, closed to everyone else."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            close_to_others(self.root)
            (self.root / "log").mkdir(mode=0o700, exist_ok=True)
            self.runtime.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise ServerError(f"The data folder {self.root} can't be used: {sentence_of(error)}.") from error
        if self.is_runtime_elsewhere:
            refuse_foreign(self.runtime)

    def clear_runtime(self) -> None:
        if self.is_runtime_elsewhere and self.runtime.is_dir() and not any(self.runtime.iterdir()):
            self.runtime.rmdir()


def close_to_others(root: Path) -> None:
    status = root.stat()
    if status.st_mode & stat.S_ISVTX or (os.geteuid() != 0 and status.st_uid != os.geteuid()):
        raise ServerError(
            f"The data folder {root} is not one that HIVE may have to itself; set HIVE_DATA_DIR to another."
        )
    # Passing through may be allowed: the account that runs PostgreSQL for root has to reach its own folder.
    if status.st_mode & 0o066:
        root.chmod(0o700)


def refuse_foreign(runtime: Path) -> None:
    """Anyone may make a folder of that name in /tmp, and would then own our sockets."""
    status = runtime.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise ServerError(
            f"{runtime} belongs to someone else or is open to others; remove it, or shorten HIVE_DATA_DIR."
        )


def rotate(log: Path) -> None:
    """Put a log that has grown large aside, over the one that was put aside before."""
    if log.exists() and log.stat().st_size > LARGEST_LOG:
        log.replace(log.with_name(log.name + ".1"))


def open_log(path: Path) -> int:
    """A file descriptor that appends to the log."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def sentence_of(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{reason} ({error.filename})" if error.filename else reason
