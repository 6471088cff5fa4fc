"""What there is of attacks, and how each one's connections end."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.siege.stranger import Course

ATTACK_SECONDS = 2.5


@dataclass(frozen=True)
class Attack:
    """`ends_with` are the statuses, close codes and other ends that its connections may have, and no others.

    Made by itself it has to have one of them. `stranger.OPEN` is for attacks that HIVE bears until they are over.
    """

    name: str
    kind: str
    run: Callable[[Course], None]
    ends_with: frozenset[str]
    seconds: float
    is_in_short_form: bool


ATTACKS: dict[str, Attack] = {}


def attack(
    *ends_with: str, seconds: float = ATTACK_SECONDS, is_in_short_form: bool = False
) -> Callable[[Callable[[Course], None]], Callable[[Course], None]]:
    """Add the function to the attacks. One is longer than others if what ends it takes longer."""

    def add(function: Callable[[Course], None]) -> Callable[[Course], None]:
        kind = function.__module__.rpartition(".")[2]
        name = function.__name__
        ATTACKS[name] = Attack(name, kind, function, frozenset(ends_with), seconds, is_in_short_form)
        return function

    return add
