"""Servers, users and relays that end while sockets are open: who learns of it, and how soon."""

import asyncio
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from time import monotonic

import pytest

from tests.reliability.havoc import running
from tests.reliability.log import check_ledger, check_log, check_readers, read_log, until_all_have
from tests.reliability.readers import Reader, SteadySocketReader
from tests.reliability.scale import Report, Scale
from tests.reliability.sockets import close_code, close_code_of_new_socket, opened, receive
from tests.reliability.system import ChaosSystem
from tests.reliability.writers import Ledger, Writer
from tests.utils.test_utils import PATIENCE, wait_until_async

pytestmark = pytest.mark.reliability


async def test_sockets_of_a_server_that_stops_go_on_at_another(scale: Scale, report: Report) -> None:
    async with ChaosSystem(apis=2, relays=1) as system, AsyncExitStack() as stack:
        users = [await system.user(f"Reader {n}") for n in range(scale(500, short=120))]
        stopping, staying = system.apis
        ledger, writes = Ledger(), scale(600, short=150)
        writers = [Writer(user, system.token_of(user), [staying], ledger, users) for user in users[:4]]
        await writers[0].chat()
        log = await read_log(system)
        readers = [SteadySocketReader(user, system.token_of(user), system.apis) for user in users]
        for some in batches(readers, 50):
            await stack.enter_async_context(running(reader.run() for reader in some))
            await until_all_have(some, log)
        async with asyncio.TaskGroup() as group:
            for writer in writers:
                group.create_task(writer.run(until=writes))
            await until_written(ledger, writes // 3)
            began = monotonic()
            stopping.terminate()
            exit_code = await asyncio.to_thread(stopping.wait)
            seconds = monotonic() - began
        log = await read_log(system)
        await until_all_have(readers, log)

        ends = closings(readers)
        report.add("sockets", len(readers))
        report.add("events", len(log))
        report.add("writes answered with 2xx", ledger.answered.total())
        report.add("writes without an answer", ledger.unanswered.total())
        report.add("seconds until the server had ended", f"{seconds:.1f}")
        report.add("seconds until all writes were done and read", f"{monotonic() - began:.1f}")
        for what, times in sorted(ends.items()):
            report.add(f"sockets {what}", times)
        assert exit_code == -signal.SIGTERM
        assert seconds < scale(7, short=PATIENCE)
        # Those that read slowly, or came when many came, went to the other server before this one was told to stop.
        assert all(closings([reader]) for reader in readers)
        assert ends["closed with 1012"] > len(readers) / 2
        # So many at once may be asked to come back a moment later, or read slowly themselves, and nothing worse.
        assert set(ends) <= {"closed with 1012", "closed with 1013", "closed with 4008"}
        check_log(log)
        check_ledger(ledger, log)
        check_readers(readers, log)


def batches(readers: Sequence[Reader], size: int) -> Iterator[Sequence[Reader]]:
    yield from (readers[start : start + size] for start in range(0, len(readers), size))


def closings(readers: Sequence[Reader]) -> Counter[str]:
    found = Counter[str]()
    for reader in readers:
        found.update({what: times for what, times in reader.happened.items() if what.startswith("closed")})
    return found


async def until_written(ledger: Ledger, writes: int) -> None:
    async def are_written() -> bool:
        return ledger.writes >= writes

    await wait_until_async(are_written, what=f"{writes} writes")


async def test_another_relay_takes_over_within_seconds(scale: Scale, report: Report) -> None:
    led, seen = [], []
    async with ChaosSystem(apis=1, relays=2) as system:
        user = await system.user("Ada")
        async with system.client(user) as http, opened(system, user) as socket:
            for number in range(scale(15, short=3)):
                victim = await system.active_relay()
                began = monotonic()
                victim.kill()
                await http.post("/tasks", json={"title": f"Orchid {number}", "status": "available"})
                await system.active_relay()
                led.append(monotonic() - began)
                event = await receive(socket, "task.created")
                seen.append(monotonic() - began)
                assert (event["seq"], event["data"]["title"]) == (number + 1, f"Orchid {number}")
                victim.start()

    report.add("takeovers", len(led))
    report.add("seconds until another relay led, longest", f"{max(led):.2f}")
    report.add("seconds until an event had come, longest", f"{max(seen):.2f}")
    assert max(seen) < scale(5, short=PATIENCE)


async def test_a_relay_that_stands_still_is_replaced(scale: Scale, report: Report) -> None:
    """Stopped, swapped out, in a paused machine: its connection lives, and with it would its lock."""
    async with ChaosSystem(apis=1, relays=2) as system:
        user = await system.user("Ada")
        async with system.client(user) as http, opened(system, user) as socket:
            frozen = await system.active_relay()
            frozen.process.send_signal(signal.SIGSTOP)
            began = monotonic()
            await http.post("/tasks", json={"title": "Orchids", "status": "available"})
            event = await receive(socket, "task.created")
            seconds = monotonic() - began
            frozen.process.send_signal(signal.SIGCONT)
            await http.post("/tasks", json={"title": "Roses", "status": "available"})
            other = await receive(socket, "task.created")

    report.add("seconds until an event had come", f"{seconds:.1f}")
    assert (event["seq"], other["seq"]) == (1, 2)
    assert seconds < scale(20, short=PATIENCE)


async def test_the_sockets_of_who_deactivates_close_everywhere(scale: Scale, report: Report) -> None:
    slowest = 0.0
    async with ChaosSystem(apis=2, relays=1) as system:
        for number in range(scale(20, short=4)):
            user = await system.user(f"Leaver {number}")
            async with AsyncExitStack() as stack:
                sockets = [await stack.enter_async_context(opened(system, user, api=n % 2)) for n in range(6)]
                http = await stack.enter_async_context(system.client(user))
                opening = [asyncio.create_task(close_code_of_new_socket(system, user, api=n % 2)) for n in range(10)]
                answer = await http.delete("/users/me")
                began = monotonic()
                assert answer.status_code == 200
                codes = await asyncio.gather(*map(close_code, sockets), *opening)
                slowest = max(slowest, monotonic() - began)
                assert codes == [4401] * 16
                assert (await http.get("/users/me")).status_code == 401

    report.add("seconds until all sockets were closed, longest", f"{slowest:.2f}")
    assert slowest < scale(2, short=PATIENCE)
