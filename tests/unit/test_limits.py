"""The parts of the limits by themselves: whose a request is, windows in memory, turns, what is left."""

import asyncio
import socket
import time
from ipaddress import ip_network
from uuid import uuid4

import pytest
from limits import RateLimitItemPerMinute

from app.limits.address import LOCAL, client_of
from app.limits.allowance import Allowance
from app.limits.known_tokens import MOST_TOKENS, KnownCaller, KnownTokens
from app.limits.leases import LEASE_SECONDS, MOST_LEASES, Lease, Leases
from app.limits.memory import RecentHits
from app.limits.rules import Rule
from app.limits.shared import Reach, SlidingWindow
from app.limits.turns import MOST_WAITING, TooBusy, Turns

PROXIES = (ip_network("10.0.0.0/8"), ip_network("192.0.2.7"), ip_network("2001:db8:1::/48"))
FIVE = Rule("test", ((5, 60),))
FIVE_REQUESTS = RateLimitItemPerMinute(5, namespace="test")
FIVE_THEN_SEVEN = Rule("test-longer", ((5, 60), (7, 3_600)))


def connection(peer: str | None, *forwarded: str) -> dict[str, object]:
    headers = [(b"host", b"hive.test"), *((b"x-forwarded-for", entry.encode()) for entry in forwarded)]
    return {"client": (peer, 1234) if peer else None, "headers": headers}


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("198.51.100.4", [], "198.51.100.4"),
        # A stranger's word counts for nothing.
        ("198.51.100.4", ["203.0.113.9"], "198.51.100.4"),
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("192.0.2.7", ["203.0.113.9"], "203.0.113.9"),
        ("192.0.2.8", ["203.0.113.9"], "192.0.2.8"),
        # What the client says of itself stands before what the proxies note.
        ("10.0.0.1", ["192.0.2.1, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["192.0.2.1", "203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["192.0.2.1, 203.0.113.9, 10.1.1.1 ,192.0.2.7"], "203.0.113.9"),
        ("10.0.0.1", ["<script>, 203.0.113.9"], "203.0.113.9"),
        # A client that is in a proxies' network itself.
        ("10.0.0.1", ["10.5.5.5, 10.1.1.1"], "10.5.5.5"),
        ("10.0.0.1", ["203.0.113.9:4711"], "203.0.113.9"),
        ("10.0.0.1", ["[2001:db8:9:9:1::1]:4711"], "2001:db8:9:9::/64"),
        ("10.0.0.1", ["[2001:db8:9:9:1::1]"], "2001:db8:9:9::/64"),
        # Malformed headers are none.
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9,"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9, 10.0.0"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.999"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9, \xff"], "10.0.0.1"),
        # Each customer has a whole network of IPv6.
        ("2001:db8:9:9:1:2:3:4", [], "2001:db8:9:9::/64"),
        ("2001:db8:9:9:ffff::", [], "2001:db8:9:9::/64"),
        ("2001:db8:9:8:ffff::", [], "2001:db8:9:8::/64"),
        ("fe80::1%eth0", [], "fe80::/64"),
        ("2001:db8:1:5::1", ["203.0.113.9"], "203.0.113.9"),
        # IPv4 as a server for both kinds sees it.
        ("::ffff:198.51.100.4", [], "198.51.100.4"),
        ("::ffff:10.0.0.1", ["::ffff:203.0.113.9"], "203.0.113.9"),
        (None, [], LOCAL),
        (None, ["203.0.113.9"], LOCAL),
        ("a-name", [], LOCAL),
    ],
)
def test_whom_a_request_is_counted_for(peer: str | None, forwarded: list[str], client: str) -> None:
    assert client_of(connection(peer, *forwarded), PROXIES) == client


def test_a_proxy_without_an_address_has_to_be_trusted_by_its_word() -> None:
    assert client_of(connection(None, "203.0.113.9"), ["local"]) == "203.0.113.9"
    assert client_of(connection(None), ["local"]) == LOCAL
    assert client_of(connection("198.51.100.4", "203.0.113.9"), ["local"]) == "198.51.100.4"


def test_a_connection_that_names_no_peer_has_no_address() -> None:
    assert client_of({"headers": []}, PROXIES) == LOCAL


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_window_in_memory_has_room_again_a_minute_after_each_hit() -> None:
    clock = Clock()
    recent = RecentHits(clock)
    for _ in range(5):
        assert recent.hit(FIVE, "ada") == 0
        clock.now += 2

    assert recent.hit(FIVE, "ada") == 50
    assert recent.hit(FIVE, "grace") == 0
    clock.now += 49.9
    assert recent.hit(FIVE, "ada") == pytest.approx(0.1)
    clock.now += 0.2
    assert recent.hit(FIVE, "ada") == 0
    # The second one was two seconds later.
    assert recent.hit(FIVE, "ada") == pytest.approx(1.9)


def test_a_longer_window_counts_what_the_shorter_one_has_forgotten() -> None:
    clock = Clock()
    recent = RecentHits(clock)
    for _ in range(7):
        assert recent.hit(FIVE_THEN_SEVEN, "ada") == 0
        clock.now += 30
        # What has a short window clears up nothing that has a long one.
        recent.hit(FIVE, "grace")

    assert recent.hit(FIVE_THEN_SEVEN, "ada") == 3_600 - 7 * 30
    assert recent.count(FIVE_THEN_SEVEN, "ada") == 7
    clock.now += 3_600 - 7 * 30
    assert recent.hit(FIVE_THEN_SEVEN, "ada") == 0


def test_memory_has_room_for_so_many_names_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.limits.memory.MOST_LISTS", 3)
    recent = RecentHits(Clock())

    for number in range(10):
        recent.hit(FIVE, f"stranger {number}")

    assert len(recent) == 3
    assert recent.count(FIVE, "stranger 9") == 1
    # Who goes on trying is not forgotten for names that somebody makes up.
    recent.hit(FIVE, "stranger 7")
    recent.hit(FIVE, "stranger 10")
    assert recent.count(FIVE, "stranger 7") == 2


def test_what_is_given_back_makes_room() -> None:
    recent = RecentHits(Clock())
    for _ in range(5):
        recent.hit(FIVE, "ada")

    recent.give_back(FIVE, "ada")
    recent.give_back(FIVE, "nobody")

    assert recent.hit(FIVE, "ada") == 0
    assert recent.hit(FIVE, "ada") > 0


def test_memory_forgets_windows_that_are_past() -> None:
    clock = Clock()
    recent = RecentHits(clock)
    for number in range(1000):
        recent.hit(FIVE, f"stranger {number}")
    clock.now += 61

    recent.hit(FIVE, "ada")

    assert len(recent) == 1


async def test_turns_of_one_name_come_one_after_the_other_and_in_order() -> None:
    turns, seen = Turns(), []

    async def take(name: str, number: int) -> None:
        async with turns.of(name):
            seen.append((name, number))
            await asyncio.sleep(0)
            seen.append((name, number))

    await asyncio.gather(*(take(name, number) for number in range(3) for name in ("ada", "grace")))

    for name in ("ada", "grace"):
        assert [number for whose, number in seen if whose == name] == [0, 0, 1, 1, 2, 2]
    # And beside each other.
    assert seen[:2] == [("ada", 0), ("grace", 0)]


async def test_too_long_a_queue_takes_nobody_in_and_is_usable_afterwards() -> None:
    turns, gate = Turns(), asyncio.Event()

    async def wait() -> None:
        async with turns.of("ada"):
            await gate.wait()

    waiting = [asyncio.create_task(wait()) for _ in range(MOST_WAITING + 1)]
    await asyncio.sleep(0)

    with pytest.raises(TooBusy):
        await wait()
    async with turns.of("grace"):
        pass
    gate.set()
    await asyncio.gather(*waiting)
    await wait()


async def test_nobody_waits_for_ever_for_their_turn() -> None:
    turns = Turns(patience=0.01)

    async with turns.of("ada"):
        with pytest.raises(TooBusy):
            async with turns.of("ada"):
                pass
    async with turns.of("ada"):
        pass


async def test_several_of_one_name_may_have_their_turn_at_once() -> None:
    turns, present, most = Turns(at_once=2), 0, 0

    async def come() -> None:
        nonlocal present, most
        async with turns.of("ada"):
            present += 1
            most = max(most, present)
            await asyncio.sleep(0)
            present -= 1

    await asyncio.gather(*(come() for _ in range(9)))

    assert (present, most) == (0, 2)


async def test_who_is_cut_off_while_waiting_takes_nobodys_turn() -> None:
    turns, gate = Turns(), asyncio.Event()

    async def wait() -> None:
        async with turns.of("ada"):
            await gate.wait()

    first, second, third = (asyncio.create_task(wait()) for _ in range(3))
    await asyncio.sleep(0)
    second.cancel()
    gate.set()

    await asyncio.gather(first, third)
    with pytest.raises(asyncio.CancelledError):
        await second
    await wait()


async def test_a_busy_process_does_not_take_redis_for_dead() -> None:
    """Its own time-out is long over when it gets to reading the answer that has been there all the while."""
    here, there = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=here)

    async def answer() -> bytes:
        there.sendall(b"+")
        busy_until = time.monotonic() + 0.1
        while time.monotonic() < busy_until:
            pass
        return await reader.readexactly(1)

    assert await Reach().ask(answer, patience=0.05) == b"+"
    there.close()
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(
    ("window", "is_granted", "told"),
    [
        (SlidingWindow(0, 0, 1, 120), True, '"requests";r=4;t=60'),
        (SlidingWindow(0, 0, 5, 119.2), True, '"requests";r=0;t=60'),
        # Three quarters of the minute before still count.
        (SlidingWindow(4, 45, 1, 105), True, '"requests";r=1;t=45'),
        # The one that runs is full.
        (SlidingWindow(0, 0, 5, 61.5), False, '"requests";r=0;t=2'),
        (SlidingWindow(3, 50, 5, 110), False, '"requests";r=0;t=50'),
        # There is room when the minute before weighs less than four.
        (SlidingWindow(5, 50, 1, 110), False, '"requests";r=0;t=2'),
        (SlidingWindow(5, 48, 1, 108), False, '"requests";r=0;t=1'),
    ],
)
def test_what_is_left_of_a_window(window: SlidingWindow, is_granted: bool, told: str) -> None:
    headers = Allowance.of(FIVE_REQUESTS, window, is_granted=is_granted).headers()

    assert headers == {"RateLimit-Policy": '"requests";q=5;w=60', "RateLimit": told}


def test_a_token_that_was_seen_at_work_counts_for_its_user() -> None:
    tokens, caller = KnownTokens(), KnownCaller(uuid4(), uuid4())

    assert tokens.find("hive_unseen") is None
    tokens.remember("hive_seen", caller)
    assert tokens.find("hive_seen") == caller
    for number in range(MOST_TOKENS):
        tokens.remember(f"hive_{number}", caller)
    assert tokens.find("hive_seen") is None


POLICY = RateLimitItemPerMinute(1_200)


class Caller:
    """A caller at a clock of their own, who is counted in Redis whenever their block is used up."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.counted = 0
        self.asked = 0
        self.lease: Lease = Leases(POLICY.amount, lambda: self.now).of("caller")

    def request(self) -> None:
        if self.lease.take():
            return
        size = self.lease.next_size()
        self.counted += size
        self.asked += 1
        window = SlidingWindow(0, 0, self.counted, 60)
        self.lease.begin(size, Allowance.of(POLICY, window, is_granted=True, unused=size - 1))

    def ask(self, times: int, *, each: float) -> None:
        for _ in range(times):
            self.request()
            self.now += each


@pytest.mark.parametrize("per_second", [0.01, 0.5, 1, 2, 3, 7, 20])
def test_whoever_asks_steadily_is_counted_for_no_more_than_a_block_too_much(per_second: float) -> None:
    caller = Caller()

    caller.ask(600, each=1 / per_second)

    assert 600 <= caller.counted <= 612


@pytest.mark.parametrize(("per_second", "at_most"), [(0.1, 600), (20, 60), (2_000, 60)])
def test_whoever_asks_fast_is_counted_in_blocks(per_second: float, at_most: int) -> None:
    caller = Caller()

    caller.ask(600, each=1 / per_second)

    assert caller.asked <= at_most


def test_a_burst_and_a_pause_use_what_is_left_of_the_block_and_no_old_one() -> None:
    caller = Caller()
    caller.ask(5, each=0)
    assert caller.counted == 7
    caller.now += LEASE_SECONDS - 1
    caller.ask(2, each=0)
    assert caller.counted == 7

    caller.ask(1, each=0)
    left = caller.lease.left
    assert left == 1
    caller.now += LEASE_SECONDS + 1
    caller.ask(1, each=0)

    assert caller.lease.left < left


def test_a_small_limit_is_counted_one_by_one() -> None:
    lease = Leases(199, lambda: 0.0).of("caller")

    assert lease.next_size() == 1


def test_there_are_only_so_many_leases() -> None:
    leases = Leases(1_200, lambda: 0.0)
    first = leases.of("first")
    for number in range(MOST_LEASES):
        leases.of(f"caller {number}")

    assert leases.of("first") is not first
    assert leases.of(f"caller {MOST_LEASES - 1}") is leases.of(f"caller {MOST_LEASES - 1}")


def test_a_busy_caller_keeps_their_lease_however_many_come() -> None:
    leases = Leases(1_200, lambda: 0.0)
    busy = leases.of("busy")

    for number in range(2 * MOST_LEASES):
        leases.of(f"caller {number}")
        if number % 1_000 == 0:
            assert leases.of("busy") is busy
