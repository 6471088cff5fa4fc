"""HIVE's programs as real processes, for tests that start, watch and kill them."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import httpx2

from app.embedded.tether import tethered
from tests.utils.forked import ForkedProgram, can_be_forked
from tests.utils.test_utils import PATIENCE, wait_until

# Below those that Linux gives to connections.
PORTS = range(20_000, 32_000)
# How the kernel's table of connections says it.
LISTENING = "0A"
# How much of what a process has said is shown when something else was waited for.
SHOWN_CHARACTERS = 5_000


def free_port() -> int:
    """A port on which nobody listens, and that no other test process on this machine gets while this one runs.

    It's none of those that the system gives to connections, so none of them takes it before the program that is to
    listen there has started.
    """
    while True:
        # Not by `random`, which begins alike in all test processes.
        port = secrets.choice(PORTS)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            _reserve(port)
            return port


def _reserve(port: int) -> None:
    """Raise OSError if another one has done so. It lasts until this process ends."""
    # A name that the kernel keeps, and forgets with the process; no file is left.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as name:
        name.bind(f"\0hive-test-port-{port}")
        name.detach()


def measured() -> dict[str, str]:
    """What has a process count the lines that it reaches, when this one's are counted."""
    return {name: value for name, value in os.environ.items() if name.startswith("COVERAGE")}


class HiveProcess:
    """`python <arguments>` in a folder of its own, with all that it says in one file.

    However the test ends, and should the tests themselves be killed, the process ends with it. It may be started
    again; its output goes on where it was. `may_be_forked` is False where the start or the memory is what is tested.
    """

    def __init__(
        self, arguments: list[str], environment: dict[str, str], *, cwd: Path | None = None, may_be_forked: bool = True
    ) -> None:
        self._may_be_forked = may_be_forked
        self._arguments = arguments
        self._environment = environment | measured()
        self._cwd = cwd
        self._folder = tempfile.TemporaryDirectory(prefix="hive-out-")
        self._output = Path(self._folder.name) / "output"

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        with self._output.open("ab") as output:
            self.process = self._started(str(self._cwd or self._folder.name), output)

    def _started(self, folder: str, output: IO[bytes]) -> subprocess.Popen[bytes] | ForkedProgram:
        if self._may_be_forked and can_be_forked(self._arguments, self._environment):
            with Path(os.devnull).open("rb") as nothing:
                return ForkedProgram(self._arguments, self._environment, cwd=folder, files=(nothing, output, output))
        return subprocess.Popen(
            tethered([sys.executable, *self._arguments], dies_by=signal.SIGKILL),
            env=self._environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._folder.cleanup()

    @property
    def output(self) -> str:
        return self._output.read_text(errors="replace")

    def wait_for_output(self, text: str, *, timeout: float = PATIENCE) -> None:
        """Wait until the process has said this; it must not have ended before."""

        def has_said() -> bool:
            if text in self.output:
                return True
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.output}"
            return False

        try:
            wait_until(has_said, timeout=timeout, what=f"{text!r} from {self._arguments}")
        except AssertionError as error:
            error.add_note(f"It has said:\n{self.output[-SHOWN_CHARACTERS:]}")
            raise

    def listening_ports(self) -> set[int]:
        """The TCP ports on which the process listens."""
        sockets = set()
        for descriptor in Path(f"/proc/{self.process.pid}/fd").iterdir():
            # One that was closed since is none on which it listens.
            with suppress(FileNotFoundError):
                sockets.add(str(descriptor.readlink()))
        tables = (Path(f"/proc/net/{family}").read_text().splitlines()[1:] for family in ("tcp", "tcp6"))
        rows = [line.split() for table in tables for line in table]
        ours = [row for row in rows if row[3] == LISTENING and f"socket:[{row[9]}]" in sockets]
        return {int(row[1].rpartition(":")[2], 16) for row in ours}

    def wait(self, timeout: float = PATIENCE) -> int:
        """The exit code."""
        return self.process.wait(timeout)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def run_program(
    arguments: list[str], environment: dict[str, str], *, cwd: Path | str | None = None, text: str = ""
) -> subprocess.CompletedProcess[str]:
    """What `python <arguments>` says and how it ends, with the text as its input."""
    with ExitStack() as stack:
        folder = cwd or stack.enter_context(tempfile.TemporaryDirectory(prefix="hive-program-"))
        if not can_be_forked(arguments, environment | measured()):
            return subprocess.run(
                [sys.executable, *arguments],
                env=environment | measured(),
                cwd=folder,
                input=text,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
        files[0].write(text.encode())
        files[0].seek(0)
        program = ForkedProgram(arguments, environment, cwd=str(folder), files=files)
        try:
            program.wait(PATIENCE)
        finally:
            program.kill()
            code = program.wait()
        for file in files:
            file.seek(0)
        _, said, faults = (file.read().decode() for file in files)
        return subprocess.CompletedProcess(arguments, code, said, faults)


def answers(url: str, process: HiveProcess) -> bool:
    """Whether the server answers yet; it must not have ended."""
    assert process.process.poll() is None, process.output
    try:
        return httpx2.get(url, timeout=PATIENCE).is_success
    except httpx2.TransportError:
        return False


@dataclass(frozen=True)
class RunningApi:
    """An API process of a test's own. `address` has no path."""

    address: str
    process: HiveProcess

    @property
    def base_url(self) -> str:
        return f"{self.address}/api/v1"

    @property
    def sockets(self) -> str:
        return f"{self.address.replace('http', 'ws', 1)}/ws"


@contextmanager
def running_apis(count: int, environment: dict[str, str]) -> Iterator[list[RunningApi]]:
    """So many of them, once all answer."""
    with ExitStack() as stack:
        apis = []
        for _ in range(count):
            port = free_port()
            process = stack.enter_context(HiveProcess(["-m", "app.cli", "api"], environment | {"PORT": str(port)}))
            apis.append(RunningApi(f"http://127.0.0.1:{port}", process))
        for api in apis:
            wait_until(partial(answers, f"{api.address}/health", api.process), what="the API")
        yield apis
