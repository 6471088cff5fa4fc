"""The Valkey that the keeper keeps."""

import re
import signal
import socket
import subprocess
from pathlib import Path

from app.embedded.folder import Folder, ServerError, rotate, sentence_of
from app.embedded.process import Steps, last_words, size, spawn, stop, stop_orphans

SETTINGS = {
    "port": "0",
    "unixsocketperm": "700",
    "daemonize": "no",
    "databases": "64",
    "maxmemory-policy": "noeviction",
    "appendonly": "yes",
    "save": "",
    # The append-only file has it all: there is nothing to wait for, and nothing may keep it from going.
    "shutdown-on-sigterm": "nosave now force",
    "always-show-logo": "no",
}

STOP_SIGNALS = ((signal.SIGTERM, 4.0), (signal.SIGKILL, 1.0))


class Valkey:
    name = "Valkey"

    def __init__(self, folder: Folder, *, durable: bool) -> None:
        self._folder = folder
        self._log = folder.log("valkey")
        self._settings = SETTINGS | {"appendfsync": "everysec" if durable else "no"}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, program: str) -> Steps:
        """`program` is the path of valkey-server."""
        data = self._folder.root / "valkey"
        try:
            rotate(self._log)
            data.mkdir(mode=0o700, exist_ok=True)
            yield from stop_orphans(data, "valkey-server", STOP_SIGNALS)
            yield from self._bring_up(program, data)
        except OSError as error:
            raise ServerError(f"The embedded Valkey can't be started: {sentence_of(error)}.") from error

    def stop(self) -> Steps:
        if self._process is not None:
            yield from stop(self._process, STOP_SIGNALS)

    def _bring_up(self, program: str, data: Path) -> Steps:
        settings = self._settings | {"dir": str(data), "unixsocket": str(self._folder.valkey_socket)}
        options = [option for name, value in settings.items() for option in (f"--{name}", value)]
        said = size(self._log)
        self._process = spawn([program, *options], log=self._log, dies_by=signal.SIGTERM)
        while answering_process(self._folder.valkey_socket) != self._process.pid:
            if not self.is_running:
                raise ServerError(f"The embedded Valkey doesn't start: {last_words(self._log, said)}.")
            yield


def answering_process(path: Path) -> int | None:
    """The process id of the Valkey that serves there; one that still loads its data doesn't serve."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            connection.connect(str(path))
            # Sent as one: the first answer is an error as long as it loads.
            connection.sendall(b"PING\r\nINFO server\r\nQUIT\r\n")
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
    except OSError:
        return None
    if not answer.startswith(b"+PONG"):
        return None
    found = re.search(rb"process_id:(\d+)", answer)
    return int(found[1]) if found else None
