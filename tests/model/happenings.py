"""What happens in a run, by chance: requests mostly, and what becomes of those who sent them."""

from dataclasses import dataclass

from hypothesis import strategies as st

from tests.model import asks
from tests.model.hive import ADA, BEA, BOT, CYN, PEOPLE, ROOT, SCRIPT
from tests.model.names import LEASES, NOBODYS_ID
from tests.model.nouns import AVAILABLE, DRAFT, Caller
from tests.model.rules import NEXT


@dataclass(frozen=True)
class SendAgain:
    """The last request under a key, or one before, as it was or with another body."""

    back: int
    is_changed: bool = False


@dataclass(frozen=True)
class RunOut:
    """The time of the task's lease passes."""


@dataclass(frozen=True)
class DoLeaseJobs:
    """A worker comes to what was asked for to be done at the end of the task's leases."""


What = asks.Ask | SendAgain | RunOut | DoLeaseJobs

# Each of these is as frequent as it stands there: mostly what can be done, by those who may, so that something happens.
WHAT: list[What] = [
    *[asks.Step("forward")] * 8,
    *[asks.Step("back")] * 8,
    *[asks.Step(status) for status in NEXT],
    *[asks.Edit({"title": "Water the orchids"}), asks.Edit({"priority": "high", "impact_points": 5})],
    *[asks.Edit({"category": "b", "description": "With rain water."}), asks.Edit({"due_at": None})],
    *[asks.FillIn({"title": "Prune the roses"}, "forward"), asks.FillIn({"impact_points": 8}, "back")],
    asks.FillIn({"description": "By hand."}, AVAILABLE),
    *[asks.Assign(person) for person in (*PEOPLE, NOBODYS_ID)],
    *[asks.HandOver(person) for person in (*PEOPLE, NOBODYS_ID)],
    *[asks.Unassign()] * 3,
    *[asks.Claim(seconds) for seconds in (None, *LEASES)] * 2,
    *[asks.ClaimNext(None, "ab"), asks.ClaimNext(LEASES[0], "a"), asks.ClaimNext(LEASES[1], "b")],
    *[asks.Renew(seconds) for seconds in (None, LEASES[0])] * 2,
    *[asks.Block()] * 14,
    *[asks.Unblock()] * 3,
    *[asks.Create(AVAILABLE, {"priority": "urgent"}), asks.Create(AVAILABLE, {"due_at": "2031-05-04T03:02:01Z"})],
    *[asks.Create(AVAILABLE), asks.Create(DRAFT)],
    asks.Delete(),
    *[asks.Look()] * 2,
    *[SendAgain(0), SendAgain(0, is_changed=True), SendAgain(1), SendAgain(3)],
    *[RunOut()] * 5,
    *[DoLeaseJobs()] * 4,
]
WHO: list[Caller | str] = [*["owner"] * 14, *["holder"] * 4, ADA, *[BEA] * 3, *[CYN] * 2, ROOT, *[BOT] * 2, SCRIPT]
# How far `If-Match` and `Hive-Lease-Token` are from what is so at the moment.
SEEN = [*[(None, None)] * 24, *[(0, None), (None, 0)] * 2, (0, 0), (-1, None), (1, None), (None, -1)]
DEATHS = [*["none"] * 5, "half sent", "sent", "not read"]
# Often the task that something was done to just before, or the one that was the other one then.
PLACES = [*["here"] * 3, "there", *["anywhere"] * 2]


@dataclass(frozen=True)
class Happening:
    """What happens next. The caller, and what they go by, are said in relation to the task as it is then."""

    what: What
    who: Caller | str
    place: str
    # The number of a task, which begins anew after the last one.
    task: int
    other: int
    seen: tuple[int | None, int | None]
    death: str


numbers = st.integers(0, 59)
happenings = st.builds(
    Happening,
    what=st.sampled_from(WHAT),
    who=st.sampled_from(WHO),
    place=st.sampled_from(PLACES),
    task=numbers,
    other=numbers,
    seen=st.sampled_from(SEEN),
    death=st.sampled_from(DEATHS),
)
