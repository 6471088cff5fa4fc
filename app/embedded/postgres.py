"""The PostgreSQL that the keeper keeps."""

import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from app.embedded.folder import Folder, ServerError, rotate, sentence_of
from app.embedded.identity import Identity, IdentityKind, choose_identity, forced_identity
from app.embedded.process import Steps, last_words, run, size, spawn, stop, stop_orphans

MAJOR = "18"

SETTINGS = {
    # Reached through the socket alone, whose folder nobody else can enter.
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    # Some ten API processes, with what else there is. One that nobody uses costs some kilobytes.
    "max_connections": "200",
    "shared_buffers": "48MB",
    "huge_pages": "off",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "datestyle": "ISO, YMD",
    # One machine, one server: nothing is replicated, so less is written and fewer processes stand by.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "io_method": "sync",
    "min_wal_size": "32MB",
    "max_wal_size": "512MB",
    "checkpoint_timeout": "15min",
    # A refused row is everyday work here. Its values, which may be someone's address, stay out of the log.
    "log_min_messages": "warning",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_checkpoints": "off",
}

# A commit still waits until the system has it: when PostgreSQL alone is killed, nothing may be lost.
# Tests run in parallel, and each of their processes has a pool.
THROWAWAY_SETTINGS = {"fsync": "off", "full_page_writes": "off", "max_connections": "300"}

STOP_SIGNALS = ((signal.SIGINT, 5.0), (signal.SIGQUIT, 2.0), (signal.SIGKILL, 1.0))
ORPHAN_STOP_SIGNALS = ((signal.SIGQUIT, 3.0), (signal.SIGKILL, 2.0))

STARTUP_PARAMETERS = b"user\0hive\0database\0hive\0application_name\0keeper\0\0"
STARTUP_MESSAGE = (8 + len(STARTUP_PARAMETERS)).to_bytes(4, "big") + (3 << 16).to_bytes(4, "big") + STARTUP_PARAMETERS
TERMINATE_MESSAGE = b"X\0\0\0\4"
CANNOT_CONNECT_NOW = b"57P03"


class Postgres:
    name = "PostgreSQL"

    def __init__(self, folder: Folder, *, durable: bool, identity: IdentityKind | None = None) -> None:
        self._folder = folder
        self._log = folder.log("postgres")
        self._settings = SETTINGS if durable else SETTINGS | THROWAWAY_SETTINGS
        self._durable = durable
        self._forced_identity = identity
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, program: str) -> Steps:
        """`program` is the folder of PostgreSQL's programs."""
        try:
            rotate(self._log)
            identity = self._identity()
            binaries = identity.binaries(Path(program))
            cluster = identity.cluster(self._folder)
            if is_cluster(cluster):
                yield from self._clear(cluster)
            else:
                yield from self._create(identity, binaries, cluster)
            yield from self._bring_up(identity, binaries, cluster)
        except OSError as error:
            raise ServerError(f"The embedded PostgreSQL can't be started: {sentence_of(error)}.") from error

    def stop(self) -> Steps:
        if self._process is not None:
            yield from stop(self._process, STOP_SIGNALS)

    def _identity(self) -> Identity:
        if self._forced_identity is not None:
            return forced_identity(self._forced_identity)
        return choose_identity(self._folder)

    def _clear(self, cluster: Path) -> Steps:
        """Remove what a killed one left: processes, and locks whose number may be a stranger's by now."""
        yield from stop_orphans(cluster, "postgres", ORPHAN_STOP_SIGNALS)
        if sys.platform == "linux":
            for left in (cluster / "postmaster.pid", *socket_locks(self._folder, cluster)):
                left.unlink(missing_ok=True)

    def _create(self, identity: Identity, binaries: Path, cluster: Path) -> Steps:
        """Make the cluster aside and rename it, so that a half-made one is never taken for whole."""
        draft = cluster.with_name(cluster.name + ".new")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        identity.own(draft)
        yield from self._run_or_explain(initdb_command(binaries, draft, durable=self._durable), identity)
        create_database = [
            str(binaries / "postgres"),
            "--single",
            "-D",
            str(draft),
            "-c",
            "exit_on_error=on",
            "postgres",
        ]
        yield from self._run_or_explain(create_database, identity, typed=b"CREATE DATABASE hive\n")
        draft.rename(cluster)

    def _run_or_explain(self, command: list[str], identity: Identity, typed: bytes = b"") -> Steps:
        said = size(self._log)
        if (yield from run(command, log=self._log, identity=identity.tether, typed=typed)) != 0:
            raise ServerError(f"The embedded PostgreSQL can't be set up: {last_words(self._log, said)}.")

    def _bring_up(self, identity: Identity, binaries: Path, cluster: Path) -> Steps:
        settings = self._settings | {"unix_socket_directories": str(identity.sockets(self._folder))}
        options = [option for name, value in settings.items() for option in ("-c", f"{name}={value}")]
        said = size(self._log)
        self._process = spawn(
            [str(binaries / "postgres"), "-D", str(cluster), *options],
            log=self._log,
            # Its "immediate shutdown": the one signal that it obeys at once, and it takes its children along.
            dies_by=signal.SIGQUIT,
            identity=identity.tether,
        )
        while not answers(self._folder.postgres_socket):
            if not self.is_running:
                raise ServerError(f"The embedded PostgreSQL doesn't start: {last_words(self._log, said)}.")
            yield


def initdb_command(binaries: Path, cluster: Path, *, durable: bool) -> list[str]:
    # The built-in locale sorts by code point and knows the letters of Unicode, whatever the system's
    # libraries.
    locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    sync = [] if durable else ["--no-sync"]
    return [str(binaries / "initdb"), "-D", str(cluster), "-U", "hive", "--auth=trust", *locale, *sync]


def is_cluster(path: Path) -> bool:
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return False
    try:
        major = (path / "PG_VERSION").read_text(encoding="ascii").strip()
    except (FileNotFoundError, NotADirectoryError):
        raise ServerError(f"{path} is not the data of a PostgreSQL; move it away, or set DATABASE_URL.") from None
    if major != MAJOR:
        raise ServerError(
            f"{path} was made by PostgreSQL {major} and HIVE brings PostgreSQL {MAJOR}: "
            "dump it with the old version, or set DATABASE_URL."
        )
    return True


def socket_locks(folder: Folder, cluster: Path) -> Iterator[Path]:
    for place in (folder.runtime, cluster):
        yield place / f"{folder.postgres_socket.name}.lock"


def answers(path: Path) -> bool:
    """Whether a PostgreSQL takes connections there; one that still recovers says that it doesn't."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            connection.connect(str(path))
            connection.sendall(STARTUP_MESSAGE)
            answer = connection.recv(4096)
            connection.sendall(TERMINATE_MESSAGE)
    except OSError:
        return False
    return answer != b"" and CANNOT_CONNECT_NOW not in answer
