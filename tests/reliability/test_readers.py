"""Readers of every kind get everything, once and in order, while everything that carries it is killed."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from statistics import median

import pytest

from app.models import User
from tests.reliability.havoc import Havoc, running
from tests.reliability.log import check_ledger, check_log, check_readers, read_log, until_all_have, visible_to
from tests.reliability.readers import KINDS, Event, Lags, Reader
from tests.reliability.scale import Report, Scale
from tests.reliability.state import Fold, comparable, read_tasks
from tests.reliability.system import ChaosSystem
from tests.reliability.writers import Ledger, Writer

pytestmark = pytest.mark.reliability


async def test_readers_lose_nothing_while_everything_is_killed(scale: Scale, report: Report) -> None:
    async with ChaosSystem(apis=2, relays=2) as system:
        admin = await system.user("Root", is_admin=True)
        users = [await system.user(f"Writer {n}") for n in range(scale(20, short=8))]
        writes, ledger, lags = scale(5_000, short=300), Ledger(), Lags()
        readers = [
            make_reader(number, admin if number < len(KINDS) else users[number % len(users)], system, lags)
            for number in range(scale(50, short=15))
        ]
        havoc = Havoc(system, done=lambda: ledger.writes, every=scale(80, short=40))
        async with running(reader.run() for reader, _ in readers):
            async with asyncio.TaskGroup() as group:
                group.create_task(havoc.run(until=writes))
                for user in users:
                    writer = Writer(user, system.token_of(user), system.apis, ledger, users)
                    group.create_task(writer.run(until=writes))
            tell_writes(report, ledger, havoc)
            log = await read_log(system)
            for reader, _ in readers:
                reader.stay_from_now_on()
            await until_all_have([reader for reader, _ in readers], log)
        tell_reading(report, [reader for reader, _ in readers], len(log), lags)

        assert min(havoc.struck[f"{what} killed"] for what in ("API", "active relay", "Valkey")) >= scale(5, short=1)
        assert len(visible_to(users[0], log)) < len(visible_to(admin, log)) == len(log)
        check_log(log)
        check_readers([reader for reader, _ in readers], log)
        check_ledger(ledger, log)
        for number in range(len(system.apis)):
            await check_state(system, readers, number)


def make_reader(number: int, user: User, system: ChaosSystem, lags: Lags) -> tuple[Reader, Fold]:
    """One of the kinds in turn, and what it makes of the events."""
    fold = Fold()

    def on_event(event: Event) -> None:
        lags.note(event)
        fold.apply(event)

    kind = KINDS[number % len(KINDS)]
    # Half of them begin at the other server.
    apis = system.apis if number % 2 else system.apis[::-1]
    return kind(user, system.token_of(user), apis, on_event=on_event), fold


async def check_state(system: ChaosSystem, readers: Sequence[tuple[Reader, Fold]], api: int) -> None:
    """By REST the tasks are what each reader has made of the events of its own ones, and an admin's of all."""
    for reader, fold in readers:
        async with system.client(reader.user, api=api) as http:
            by_rest = await read_tasks(http, **({} if reader.user.is_admin else {"owner": "me"}))
        assert comparable(fold.tasks_of(reader.user)) == comparable(by_rest)


def tell_writes(report: Report, ledger: Ledger, havoc: Havoc) -> None:
    report.add("writes answered with 2xx", ledger.answered.total())
    report.add("writes without an answer", ledger.unanswered.total())
    report.add("writes refused (403, 404, 409)", ledger.refused.total())
    for what, times in sorted(havoc.struck.items()):
        report.add(what, times)


def tell_reading(report: Report, readers: Sequence[Reader], events: int, lags: Lags) -> None:
    report.add("events in the log", events)
    report.add("events read by all readers", sum(len(reader.events) for reader in readers))
    resumed, happened = Counter[str](), Counter[str]()
    for reader in readers:
        resumed[reader.kind] += reader.happened["resumed"]
        happened += reader.happened
    for kind, times in sorted(resumed.items()):
        report.add(f"resumes of a {kind}", times)
    for what in sorted(set(happened) - {"resumed"}):
        report.add(f"readers {what}", happened[what])
    seconds = sorted(lags.by_seq.values())
    report.add("lag, median and longest", f"{median(seconds):.3f} s, {seconds[-1]:.3f} s")
