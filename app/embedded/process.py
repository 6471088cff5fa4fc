"""What both servers need of the operating system: start, wait, stop, find what an earlier life left."""

import os
import signal
import subprocess
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.embedded.folder import ServerError, open_log, sentence_of
from app.embedded.tether import SAME_USER, tethered

# A start or a stop under way. The keeper goes on with it every few milliseconds, and serves clients between.
Steps = Generator[None, None, None]

# In the order in which they are tried, each with the seconds that it gets.
StopSignals = Sequence[tuple[signal.Signals, float]]

FULL_DISK_MARKS = ("No space left on device", "Check free disk space")

# What comes after them is the reason; the later ones are said of it again, or of what it leads to.
GRAVE_MARKS = ("FATAL:", "ERROR:", "error:", "PANIC:")

KEPT_ENVIRONMENT = ("HOME", "LD_LIBRARY_PATH", "PATH")


def spawn(
    command: Sequence[str],
    *,
    log: Path,
    dies_by: signal.Signals,
    identity: str = SAME_USER,
    stdin: int = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Start a program that dies with the keeper; what it says goes to `log`."""
    output = open_log(log)
    try:
        return subprocess.Popen(
            tethered(command, dies_by=dies_by, identity=identity),
            stdin=stdin,
            stdout=output,
            stderr=output,
            cwd="/",
            env={name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ} | {"LC_ALL": "C"},
        )
    except OSError as error:
        raise ServerError(f"{command[0]} can't be started: {sentence_of(error)}.") from error
    finally:
        os.close(output)


def run(
    command: Sequence[str], *, log: Path, identity: str = SAME_USER, typed: bytes = b""
) -> Generator[None, None, int]:
    """Run a program to its end and return its exit code; when the steps are given up, it is killed.

    `typed` is its standard input, and short enough to fit in a pipe.
    """
    stdin, keyboard = os.pipe()
    try:
        os.write(keyboard, typed)
        os.close(keyboard)
        process = spawn(command, log=log, dies_by=signal.SIGKILL, identity=identity, stdin=stdin)
    finally:
        os.close(stdin)
    try:
        while (code := process.poll()) is None:
            yield
        return code
    finally:
        process.kill()
        process.wait()


def stop(process: subprocess.Popen[bytes], signals: StopSignals) -> Steps:
    for number, patience in signals:
        process.send_signal(number)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if process.poll() is not None:
                return
            yield


@dataclass(frozen=True)
class Orphan:
    """A server that has outlived its keeper. The descriptor means it, never the next owner of its number."""

    pid: int
    pidfd: int

    @property
    def is_alive(self) -> bool:
        try:
            signal.pidfd_send_signal(self.pidfd, 0)
        except ProcessLookupError:
            return False
        return not is_zombie(self.pid)


def stop_orphans(folder: Path, program: str, signals: StopSignals) -> Steps:
    """Stop every `program` that works in `folder`, and nothing else."""
    orphans = find_orphans(folder, program)
    try:
        for number, patience in signals:
            deadline = time.monotonic() + patience
            send_to_all(orphans, number)
            while time.monotonic() < deadline:
                if not any(orphan.is_alive for orphan in orphans):
                    return
                yield
    finally:
        for orphan in orphans:
            os.close(orphan.pidfd)


def send_to_all(orphans: Sequence[Orphan], number: signal.Signals) -> None:
    for orphan in orphans:
        try:
            signal.pidfd_send_signal(orphan.pidfd, number)
        except ProcessLookupError:
            continue


def find_orphans(folder: Path, program: str) -> list[Orphan]:
    return [orphan for pid in process_ids() if (orphan := claim_orphan(pid, folder, program))]


def claim_orphan(pid: int, folder: Path, program: str) -> Orphan | None:
    try:
        # Looked at before it is held, or every process of the machine would be opened.
        if not is_program_in(pid, folder, program):
            return None
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None
    if is_program_in(pid, folder, program):
        return Orphan(pid, pidfd)
    os.close(pidfd)
    return None


def is_program_in(pid: int, folder: Path, program: str) -> bool:
    """Whether it is `program`, working in `folder`; one that is gone, or isn't ours to look at, is not."""
    process = Path("/proc", str(pid))
    try:
        # An update may have put another file in the place of the one that it runs.
        executable = (process / "exe").readlink().name.removesuffix(" (deleted)")
        return executable == program and (process / "cwd").readlink() == folder
    except OSError:
        return False


def is_zombie(pid: int) -> bool:
    try:
        status = Path("/proc", str(pid), "stat").read_text(encoding="utf-8", errors="replace")
        return status.rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def process_ids() -> Iterator[int]:
    """Of every process that can be seen; none where there is no /proc."""
    yield from (int(entry.name) for entry in Path("/proc").glob("[0-9]*"))


def last_words(log: Path, since: int = 0) -> str:
    """What says best, of all that was written after `since` bytes, why the program gave up."""
    with log.open(encoding="utf-8", errors="replace") as file:
        file.seek(since)
        lines = [line.strip() for line in file if line.strip()]
    if any(mark in line for mark in FULL_DISK_MARKS for line in lines):
        return "the disk is full"
    for mark in GRAVE_MARKS:
        for line in lines:
            if mark in line:
                return line.partition(mark)[2].strip().rstrip(".")
    return (lines or ["it gave no reason"])[-1].rstrip(".")


def size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0
