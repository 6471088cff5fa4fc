"""The parts that the protocols share: budgets, turns and what waits."""

import asyncio
import time

import pytest

from app.limits.budget import TokenBucket
from app.wire.backlog import Backlog
from app.wire.turns import FairTurns


def test_a_bucket_holds_no_more_than_its_capacity() -> None:
    bucket = TokenBucket(rate=10, capacity=5, now=0.0)

    bucket.spend(5, now=1000.0)

    assert bucket.seconds_in_debt(now=1000.0) == 0
    bucket.spend(1, now=1000.0)
    assert bucket.seconds_in_debt(now=1000.0) == pytest.approx(0.1)
    assert bucket.seconds_in_debt(now=1000.2) == 0


def test_a_debt_is_paid_off_first() -> None:
    bucket = TokenBucket(rate=10, capacity=5, now=0.0)

    bucket.spend(25, now=0.0)

    assert bucket.seconds_in_debt(now=1.0) == pytest.approx(1.0)


def test_a_backlog_gives_in_the_order_in_which_it_got() -> None:
    backlog = Backlog()
    backlog.append(b"abc")
    taken = backlog.take(2)
    backlog.append(b"def")

    assert taken + backlog.take(3) + backlog.take(9) == b"abcdef"
    assert not backlog


class Digger:
    """Has so many pieces of work, each of which takes a millisecond."""

    def __init__(self, pieces: int, log: list[str], name: str) -> None:
        self.pieces = pieces
        self.log = log
        self.name = name

    def work(self) -> bool:
        self.log.append(self.name)
        until = time.monotonic() + 0.001
        while time.monotonic() < until:
            pass
        self.pieces -= 1
        return self.pieces > 0


async def test_others_come_in_between_however_much_there_is_to_do() -> None:
    log: list[str] = []
    turns = FairTurns()
    for name in "ab":
        turns.wait(Digger(30, log, name))

    while len(log) - log.count(" ") < 60:
        log.append(" ")
        await asyncio.sleep(0)

    work = "".join(log)
    assert work.replace(" ", "") == "ab" * 30
    assert max(len(turn) for turn in work.split(" ")) <= 3
