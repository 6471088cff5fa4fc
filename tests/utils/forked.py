"""HIVE's programs, started by forking a process that has loaded their libraries already.

To load them takes most of a program's start: one and a half seconds of the processor, some hundred times in all tests.
What is forked is an ordinary process, with an id, an environment, a folder and an exit code of its own.
"""

import atexit
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import IO

from app.embedded.tether import tethered

FORK_SERVER = Path(__file__).with_name("fork_server.py")
SCRIPTS = f"{Path(__file__).resolve().parents[2]}/scripts/"
# The interpreter or the C library reads these at its own start.
READ_AT_START = ("PYTHON", "COVERAGE", "LANG", "LC_", "LD_", "MALLOC_", "TZ")


def can_be_forked(arguments: list[str], environment: dict[str, str]) -> bool:
    """Whether these arguments of Python start a program of HIVE for which a start of Python itself is no matter."""
    names = environment.keys() - {"PYTHONPATH"}
    if any(name.startswith(READ_AT_START) for name in names) or threading.current_thread() != threading.main_thread():
        return False
    match arguments[1:] if arguments[:1] == ["-P"] else arguments:
        case ["-m", "app.cli", command, *_]:
            # It starts the others itself, and stays small.
            return command != "run"
        case ["-m", "celery" | "uvicorn" | "alembic", *_]:
            return True
        case [script, *_]:
            return script.startswith(SCRIPTS)
    return False


class ForkedProgram:
    """As much of `subprocess.Popen` as is needed here."""

    def __init__(
        self, arguments: list[str], environment: dict[str, str], *, cwd: str, files: Sequence[IO[bytes]]
    ) -> None:
        """`files` are the program's standard input, output and error output."""
        self._arguments = arguments
        self._lock = threading.Lock()
        self.returncode: int | None = None
        self._report, theirs = socket.socketpair()
        wanted = {"arguments": arguments, "environment": environment, "folder": cwd}
        with theirs:
            descriptors = [theirs.fileno(), *(file.fileno() for file in files)]
            socket.send_fds(_fork_server(), [json.dumps(wanted).encode()], descriptors)
        self.pid = self._read()

    def poll(self) -> int | None:
        return self._returncode(milliseconds=0)

    def wait(self, timeout: float | None = None) -> int:
        returncode = self._returncode(milliseconds=None if timeout is None else round(timeout * 1000))
        if returncode is None:
            raise subprocess.TimeoutExpired(self._arguments, timeout or 0)
        return returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _returncode(self, *, milliseconds: int | None) -> int | None:
        with self._lock:
            if self.returncode is not None:
                return self.returncode
            readable = select.poll()
            readable.register(self._report, select.POLLIN)
            if readable.poll(milliseconds):
                self.returncode = self._read()
                self._report.close()
            return self.returncode

    def _read(self) -> int:
        message = self._report.recv(4)
        if not message:
            # The fork server is gone, so this process is, too.
            return -signal.SIGKILL
        number: int = struct.unpack("i", message)[0]
        return number


@cache
def _fork_server() -> socket.socket:
    control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-P", str(FORK_SERVER), str(theirs.fileno())]
    environment = {"PATH": os.environ["PATH"]}
    with theirs:
        server = subprocess.Popen(
            tethered(command, dies_by=signal.SIGKILL), env=environment, pass_fds=[theirs.fileno()]
        )

    def end() -> None:
        control.close()
        server.wait()

    atexit.register(end)
    return control
