"""A program that loads the libraries of HIVE's programs once, and then starts programs by forking itself.

It loads nothing of HIVE, and knows nothing of a program's environment, before the fork. It's told what to start by
messages at a socket, the number of whose descriptor is its argument, and ends when the other end is closed.
`tests/utils/forked.py` is that other end.
"""

import ctypes
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG = 1
MAX_MESSAGE_BYTES = 2**18
# What isn't listed is loaded by the program itself, and costs the time that this saves.
LIBRARIES = """
    aiosmtplib alembic.command alembic.config asyncpg celery.app.log celery.apps.worker celery.backends.redis
    celery.bin.celery celery.bin.worker celery.concurrency.prefork celery.concurrency.solo celery.fixups.django
    celery.worker.components celery.worker.consumer celery.worker.strategy email_validator fastapi.middleware.cors
    fastapi_swagger httptools itsdangerous jinja2 jwt kombu.transport.redis limits.aio.storage limits.aio.strategies
    prometheus_client prometheus_client.core pwdlib.hashers.argon2 pydantic.v1 pydantic_settings redis.asyncio
    sqlalchemy.dialects.postgresql.asyncpg sqlalchemy.ext.asyncio structlog typer uuid_utils.compat
    uvicorn.lifespan.on uvicorn.loops.auto uvicorn.protocols.http.httptools_impl
    uvicorn.protocols.websockets.websockets_sansio_impl yaml
"""


class ForkServer:
    """Forks, and reports what each program's id is and how it ended."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._reports: dict[int, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._woken, self._wake = socket.socketpair()

    def until_forked(self) -> dict[str, object] | None:
        """Serve. In a new process it returns what that one has to run; in this one None, at the end."""
        self._listen()
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._woken:
                    self._woken.recv(MAX_MESSAGE_BYTES)
                    self._report_ended()
                    continue
                message, descriptors, _, _ = socket.recv_fds(self._control, MAX_MESSAGE_BYTES, 4)
                if not message:
                    return None
                if self._fork(*descriptors):
                    wanted: dict[str, object] = json.loads(message)
                    return wanted

    def _listen(self) -> None:
        self._wake.setblocking(False)
        signal.set_wakeup_fd(self._wake.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        # Ctrl-C reaches all processes of a terminal; this one ends with the one that it serves.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._selector.register(self._control, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)

    def _fork(self, report: int, *files: int) -> bool:
        """Whether this is the new process."""
        this = os.getpid()
        pid = os.fork()
        if pid == 0:
            os.close(report)
            self._leave(this)
            for number, file in enumerate(files):
                os.dup2(file, number)
        for file in files:
            os.close(file)
        if pid == 0:
            return True
        self._reports[pid] = socket.socket(fileno=report)
        self._tell(self._reports[pid], pid)
        return False

    def _leave(self, parent: int) -> None:
        """Become a process like one that has been started by itself. It dies with its parent."""
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() != parent:
            os._exit(1)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self._selector.close()
        for mine in (self._control, self._woken, self._wake, *self._reports.values()):
            mine.close()

    def _report_ended(self) -> None:
        # One signal may stand for several that have ended.
        while self._reports:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            with self._reports.pop(pid) as report:
                self._tell(report, os.waitstatus_to_exitcode(status))

    @staticmethod
    def _tell(report: socket.socket, number: int) -> None:
        # The test may have ended meanwhile.
        with suppress(OSError):
            report.send(struct.pack("i", number))


def run(arguments: list[str], environment: dict[str, str], folder: str) -> None:
    """Do what `python <arguments>` does, which begin with `-m`, with `-P -m`, or with the path of a script."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0:0] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    if arguments[0] == "-P":
        arguments = arguments[1:]
    else:
        sys.path.insert(0, str(Path.cwd() if arguments[0] == "-m" else Path(arguments[0]).parent))
    if arguments[0] == "-m":
        _, module, *sys.argv[1:] = arguments
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    for library in LIBRARIES.split():
        importlib.import_module(library)
    # None of it is looked at again, so it stays shared.
    gc.collect()
    gc.freeze()
    if wanted := ForkServer(socket.socket(fileno=int(sys.argv[1]))).until_forked():
        run(**wanted)  # type: ignore[arg-type]
