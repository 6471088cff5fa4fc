"""As many sockets as the machine allows, whatever the shell allowed to begin with."""

import asyncio

import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.utils.processes import HiveProcess, answers, free_port
from tests.utils.test_utils import PATIENCE, wait_until

pytestmark = [pytest.mark.committed, pytest.mark.usefixtures("sessions")]

FEW_FILES = 128
API_WITH_FEW_FILES = f"""
import resource, sys
from app.cli import main
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, ({FEW_FILES}, most))
sys.argv = ["hive", "api"]
main()
"""


async def test_an_api_serves_more_sockets_than_a_shell_lets_a_program_open_at_first(
    hive_environment: dict[str, str],
) -> None:
    port = free_port()
    with HiveProcess(["-c", API_WITH_FEW_FILES], hive_environment | {"PORT": str(port)}) as api:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/health", api), what="the API")

        async with asyncio.timeout(PATIENCE):
            sockets = await asyncio.gather(*(answering(port) for _ in range(FEW_FILES + 50)))
            await asyncio.gather(*(socket.close() for socket in sockets))

        assert "Too many open files" not in api.output


async def answering(port: int) -> ClientConnection:
    socket = await connect(f"ws://127.0.0.1:{port}/ws", proxy=None, open_timeout=PATIENCE)
    await (await socket.ping())
    return socket
