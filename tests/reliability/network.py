"""Networks that can fall silent: each server in a network namespace of its own, reached over a link that can fail.

It takes the right to make namespaces: root's, or that of anybody where the kernel lets users make namespaces. What runs
here runs within a namespace itself, so nothing of it is seen on the machine, and all of it goes with the process.
"""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from app.embedded.tether import tethered
from tests.utils.test_utils import PATIENCE, wait_until

INSIDE = "HIVE_TEST_IN_NAMESPACE"
FORWARDER = Path(__file__).with_name("forwarder.py")
START_SECONDS = PATIENCE


def is_inside() -> bool:
    return INSIDE in os.environ


def run_inside(test: pytest.Item, *, timeout: float) -> None:
    """Run the test once more, within a network namespace; skip it, and say why, where there can be none."""
    enter = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--net"]
    missing = [program for program in ("unshare", "nsenter", "ip", "ss") if shutil.which(program) is None]
    if missing:
        pytest.skip(f"NOT TESTED: networks that fall silent. There is no {', '.join(missing)} (util-linux, iproute2).")
    allowed = subprocess.run([*enter, "ip", "link", "set", "lo", "up"], capture_output=True, text=True, check=False)
    if allowed.returncode:
        pytest.skip(f"NOT TESTED: networks that fall silent. No network namespaces here: {allowed.stderr.strip()}")
    chosen = ["--chaos"] if test.config.getoption("--chaos") else []
    pytest_again = [sys.executable, "-m", "pytest", "-n0", "-s", "-p", "no:cacheprovider", *chosen, test.nodeid]
    ran = subprocess.run(
        [*enter, *pytest_again],
        cwd=test.config.rootpath,
        env={**os.environ, INSIDE: "1"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    sys.stdout.write(ran.stdout)
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"


class DistantServer:
    """A server behind a link of its own, from the beginning of the block to its end.

    `number` is another one for each, and part of its address; `socket_file` is where the server really listens.
    """

    def __init__(self, number: int, port: int, socket_file: str) -> None:
        self.address = f"10.77.{number}.2"
        self.port = port
        self._here = f"10.77.{number}.1"
        self._interface = f"hive{number}"
        self._socket_file = socket_file
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._host = self._start(["unshare", "--net", "sleep", "infinity"])
        ours = Path("/proc/self/ns/net").readlink()
        theirs = Path(f"/proc/{self._host.pid}/ns/net")
        wait_until(lambda: theirs.readlink() != ours, timeout=START_SECONDS, what="the namespace of a server")
        run("ip", "link", "set", "lo", "up")
        peer = ["peer", "name", "eth0", "netns", str(self._host.pid)]
        run("ip", "link", "add", self._interface, "type", "veth", *peer)
        run("ip", "address", "add", f"{self._here}/24", "dev", self._interface)
        run("ip", "link", "set", self._interface, "up")
        self._run_there("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        self.mend_link()
        forwarder = [sys.executable, str(FORWARDER), self.address, str(self.port), self._socket_file]
        forwarding = self._start([*self._there(), *forwarder], stdout=subprocess.PIPE)
        assert forwarding.stdout is not None
        assert forwarding.stdout.readline() == b"listening\n"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def cut_link(self) -> None:
        """Nothing arrives any more, in either direction, and nobody is told."""
        self._run_there("ip", "link", "set", "eth0", "down")

    def mend_link(self) -> None:
        self._run_there("ip", "link", "set", "eth0", "up")

    def forget_connections(self) -> int:
        """Drop, from now on, what belongs to the connections of now, as a firewall does that forgot them.

        New connections are let through. The answer is how many are forgotten.
        """
        listed = self._run_there("ss", "--no-header", "--tcp", "--numeric", "state", "established").splitlines()
        ports = [line.split()[3].rpartition(":")[2] for line in listed]
        for port in ports:
            rule = ["to", self._here, "ipproto", "tcp", "dport", port, "blackhole"]
            self._run_there("ip", "rule", "add", *rule)
        return len(ports)

    def _there(self) -> list[str]:
        return ["nsenter", f"--net=/proc/{self._host.pid}/ns/net"]

    def _run_there(self, *command: str) -> str:
        return run(*self._there(), *command)

    def _start(self, command: list[str], stdout: int | None = None) -> "subprocess.Popen[bytes]":
        process = self._stack.enter_context(subprocess.Popen(tethered(command, dies_by=signal.SIGKILL), stdout=stdout))
        self._stack.callback(process.kill)
        return process


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
