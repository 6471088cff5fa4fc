"""The attacks, by kind: one module each.

To add one, write a function that takes a `Course`, and put `@attack` over it, with the ends that it may have.
"""

from tests.siege.attacks import accounts, addresses, bodies, connections, frames, heads, members, streams
from tests.siege.attacks.registry import ATTACKS, Attack

KINDS = tuple(
    module.__name__.rpartition(".")[2]
    for module in (connections, heads, bodies, frames, addresses, accounts, streams, members)
)

__all__ = ["ATTACKS", "KINDS", "Attack"]
