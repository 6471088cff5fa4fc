"""The processes of one HIVE, each of which can be killed and started again."""

import signal
from collections.abc import Mapping

import httpx2

from tests.utils.processes import HiveProcess, free_port
from tests.utils.test_utils import PATIENCE, wait_until_async

START_SECONDS = PATIENCE


class Part(HiveProcess):
    """`hive <command>`. It runs from `start` to `kill` or `terminate`, as often as wanted."""

    def __init__(self, command: str, environment: Mapping[str, str]) -> None:
        super().__init__(["-P", "-m", "app.cli", command], dict(environment))
        self.command = command
        self._said_before = 0

    def start(self) -> None:
        self._said_before = len(self.output) if self._output.exists() else 0
        super().start()

    def terminate(self) -> None:
        """SIGTERM; `wait` waits for the end."""
        self.process.send_signal(signal.SIGTERM)

    def restart(self) -> None:
        """Kill it, if it runs, and start it again; `until_ready` waits for the rest."""
        if self.is_running:
            self.kill()
        self.start()

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    @property
    def output_of_this_life(self) -> str:
        return self.output[self._said_before :]

    async def until_ready(self) -> None:
        """Wait until it does what it's for. A relay does nothing while another one is active."""

    async def until_it_says(self, text: str, *, timeout: float = START_SECONDS) -> None:
        """Wait until it has said this since its last start."""

        async def has_said() -> bool:
            assert self.is_running, f"{self.command} ended with {self.process.returncode}:\n{self.output_of_this_life}"
            return text in self.output_of_this_life

        await wait_until_async(has_said, timeout=timeout, what=f"{text!r} from {self.command}")


class Api(Part):
    def __init__(self, environment: Mapping[str, str]) -> None:
        self.port = free_port()
        super().__init__("api", {**environment, "PORT": str(self.port)})

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/v1"

    @property
    def socket_address(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    async def until_ready(self) -> None:
        async with httpx2.AsyncClient() as client:

            async def answers() -> bool:
                assert self.is_running, f"the API ended with {self.process.returncode}:\n{self.output_of_this_life}"
                try:
                    return (await client.get(f"{self.address}/health", timeout=5)).is_success
                except httpx2.TransportError:
                    return False

            await wait_until_async(answers, what="the API")


class Relay(Part):
    """One of them is active, and says so when it begins to be."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__("relay", {**environment, "LOG_LEVEL": "INFO"})

    @property
    def is_active(self) -> bool:
        return self.is_running and "this relay is the active one" in self.output_of_this_life


class Worker(Part):
    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__("worker", {**environment, "LOG_LEVEL": "INFO"})

    async def until_ready(self) -> None:
        await self.until_it_says("ready.")


class Scheduler(Part):
    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__("scheduler", {**environment, "LOG_LEVEL": "INFO"})

    async def until_ready(self) -> None:
        await self.until_it_says("the scheduler is up")
