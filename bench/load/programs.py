"""Running the clients' programs: something goes in, something comes out, and nothing is left behind."""

import asyncio
import os
import pickle
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from app.embedded.tether import tethered
from bench.load.plan import Answers, Load
from bench.own_system import ROOT


@asynccontextmanager
async def program(module: str, told: object) -> AsyncIterator[Process]:
    """The module as a process that gets `told` on its standard input. It's killed if it's still there at the end."""
    command = tethered([sys.executable, "-m", module], dies_by=signal.SIGKILL)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, env=environment, limit=2**26)
    try:
        assert process.stdin is not None
        process.stdin.write(pickle.dumps(told))
        await process.stdin.drain()
        process.stdin.close()
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def outcome(process: Process) -> Any:
    """What the program tells at its end."""
    assert process.stdout is not None
    said = await process.stdout.read()
    code = await process.wait()
    assert code == 0, f"a client of the benchmark ended with {code}"
    return pickle.loads(said)


async def put_under(load: Load) -> Answers:
    """The load's answers, all of which were right.

    Raises:
        AssertionError: some were not; it quotes them.
    """
    async with program("bench.load.generator", load) as process:
        answers: Answers = await outcome(process)
    assert not answers.wrong, "wrong answers:\n" + "\n".join(answers.wrong)
    return answers
