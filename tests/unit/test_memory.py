"""What is freed is given back to the system."""

import pytest

from app.memory import WORTH_BYTES, FreedMemory, find_allocator

MIB = 1024 * 1024


class Hoarder:
    """An allocator that keeps what was freed until it's told to give it back."""

    def __init__(self) -> None:
        self.others = 100 * MIB
        self.freed = 0
        self.trims = 0

    def held_bytes(self) -> int:
        return self.others + self.freed

    def trim(self) -> None:
        self.freed = 0
        self.trims += 1


def test_what_is_freed_is_given_back_each_time() -> None:
    allocator = Hoarder()
    memory = FreedMemory(allocator)
    for _ in range(2):
        allocator.freed = WORTH_BYTES + 1
        memory.look()
        assert allocator.freed == 0


def test_little_is_kept_for_the_next_who_need_it() -> None:
    allocator = Hoarder()
    memory = FreedMemory(allocator)
    allocator.freed = WORTH_BYTES
    memory.look()
    assert allocator.trims == 0


def test_what_others_than_the_allocator_hold_is_no_reason_for_long() -> None:
    allocator = Hoarder()
    memory = FreedMemory(allocator)
    allocator.others += WORTH_BYTES + 1
    for _ in range(3):
        memory.look()
    assert allocator.trims == 1


def test_what_is_freed_counts_from_the_least_that_was_held() -> None:
    allocator = Hoarder()
    memory = FreedMemory(allocator)
    allocator.others -= WORTH_BYTES
    memory.look()
    allocator.freed = WORTH_BYTES + 1
    memory.look()
    assert allocator.freed == 0


def test_pages_between_things_in_use_are_held_until_they_are_trimmed() -> None:
    allocator = find_allocator()
    if allocator is None:
        pytest.skip("the C library is another one than glibc, or an old one")
    pieces = [bytes(8 * 1024) for _ in range(10_000)]
    in_use = pieces[::50]
    before = allocator.held_bytes()
    pieces.clear()
    freed = allocator.held_bytes() - before
    allocator.trim()

    assert len(in_use) == 200
    assert freed > 50 * MIB
    assert allocator.held_bytes() < before + freed - 50 * MIB
