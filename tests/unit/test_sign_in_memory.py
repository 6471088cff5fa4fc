"""What is remembered of tokens, and when it's believed."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from app.core.auth import NEVER, SignedIn
from app.core.permissions import Actor
from app.core.sign_in_memory import MOST_REMEMBERED, REMEMBERED_SECONDS, SignInMemory


class Clock:
    def __init__(self) -> None:
        self.seconds = 1_000_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def memory(clock: Clock) -> SignInMemory:
    memory = SignInMemory(clock, clock)
    memory.vouch(until=clock() + 3_600)
    return memory


def signed_in(*, user: UUID | None = None, expires_at: datetime = NEVER) -> SignedIn:
    return SignedIn(Actor(user or uuid4()), expires_at, uuid4())


def test_what_was_found_is_remembered(memory: SignInMemory) -> None:
    ada = signed_in()
    memory.remember("ada's", ada, changes=memory.changes)

    assert memory.find("ada's") is ada
    assert memory.find("another") is None


def test_it_is_believed_while_somebody_vouches_for_it(memory: SignInMemory, clock: Clock) -> None:
    memory.remember("ada's", signed_in(), changes=memory.changes)
    memory.vouch(until=clock() + 0.9)
    clock.seconds += 0.89
    assert memory.find("ada's")
    clock.seconds += 0.02

    assert memory.find("ada's") is None
    # For counting it will do.
    assert memory.recall("ada's")


def test_nothing_is_believed_before_somebody_has_vouched(clock: Clock) -> None:
    memory = SignInMemory(clock, clock)
    memory.remember("ada's", signed_in(), changes=memory.changes)

    assert memory.find("ada's") is None


def test_it_is_forgotten_when_the_token_runs_out(memory: SignInMemory, clock: Clock) -> None:
    expires_at = datetime.fromtimestamp(clock(), UTC) + timedelta(seconds=60)
    memory.remember("ada's", signed_in(expires_at=expires_at), changes=memory.changes)
    clock.seconds += 59
    assert memory.find("ada's")
    clock.seconds += 1

    assert memory.find("ada's") is None
    assert memory.recall("ada's") is None


def test_a_token_without_end_is_looked_up_again_after_some_minutes(memory: SignInMemory, clock: Clock) -> None:
    memory.remember("ada's", signed_in(), changes=memory.changes)
    clock.seconds += REMEMBERED_SECONDS - 1
    assert memory.find("ada's")
    clock.seconds += 1

    assert memory.find("ada's") is None


def test_a_clock_that_is_set_back_lets_nothing_live_longer() -> None:
    steady, wall = Clock(), Clock()
    memory = SignInMemory(steady, wall)
    memory.remember("ada's", signed_in(), changes=memory.changes)
    wall.seconds -= 3_600
    steady.seconds += REMEMBERED_SECONDS

    assert memory.recall("ada's") is None


def test_the_end_of_a_session_and_of_an_account_are_forgotten_alone(memory: SignInMemory) -> None:
    user = uuid4()
    ended, others = signed_in(user=user), signed_in(user=user)
    stranger = signed_in()
    for name, found in {"ended": ended, "others": others, "stranger": stranger}.items():
        memory.remember(name, found, changes=memory.changes)

    memory.forget([ended.id])
    assert [name for name in ("ended", "others", "stranger") if memory.find(name)] == ["others", "stranger"]

    memory.forget([user])
    assert [name for name in ("ended", "others", "stranger") if memory.find(name)] == ["stranger"]


def test_what_ended_while_it_was_looked_up_is_not_remembered(memory: SignInMemory) -> None:
    """It was found valid, it ended, the end was told, and only then is there something to remember."""
    before, found = memory.changes, signed_in()
    memory.forget([found.id])

    memory.remember("ada's", found, changes=before)

    assert memory.find("ada's") is None


def test_what_was_looked_up_before_a_new_beginning_is_not_remembered(memory: SignInMemory) -> None:
    before = memory.changes
    memory.forget_all()

    memory.remember("ada's", signed_in(), changes=before)

    assert memory.find("ada's") is None


def test_there_are_only_so_many(memory: SignInMemory) -> None:
    ada = signed_in()
    for number in range(MOST_REMEMBERED + 1):
        memory.remember(f"token {number}", ada, changes=memory.changes)

    assert memory.find("token 0") is None
    assert memory.find("token 1")
    assert memory.find(f"token {MOST_REMEMBERED}")
