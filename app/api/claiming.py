"""`claim-next`: each attempt is a transaction of its own, and only the one that takes a task is kept under its key."""

from dataclasses import dataclass

from fastapi import Response

from app.api.once import kept
from app.api.task_answers import change_answer
from app.core.errors import HiveError
from app.core.permissions import Actor
from app.database import Database, SearchTooSlow
from app.limits.turns import Turns
from app.models import EventType
from app.schemas.task import TaskClaimNext
from app.services import ClaimService
from app.services.idempotency_service import IdempotencyService, RequestIdentity

# After which of them a task may be ready that was not before.
MAY_MAKE_READY = frozenset(
    {
        EventType.TASK_CREATED,
        EventType.TASK_UPDATED,
        EventType.TASK_STATUS_CHANGED,
        EventType.TASK_UNASSIGNED,
        EventType.TASK_LEASE_EXPIRED,
        EventType.TASK_UNBLOCKED,
        EventType.TASK_READY,
    }
)


@dataclass(frozen=True, slots=True)
class ClaimNext:
    database: Database
    claims: Turns
    claims_by_words: Turns
    actor: Actor
    wanted: TaskClaimNext
    identity: RequestIdentity | None
    body_hash: str

    async def attempt(self) -> Response | None:
        """The answer with the task that was taken; None if there was none.

        Raises:
            Replayed: this request has taken one before.
            SearchTooSlow: it took too long to find what has the words.
            TooBusy: too many claims of this user wait for one another.
        """
        if self.wanted.q is None:
            async with self.claims.of(str(self.actor.id)):
                return await self._attempt()
        async with self.claims_by_words.of(str(self.actor.id)):
            try:
                return await self._attempt()
            except HiveError as error:
                if error.error_code == "too_slow":
                    raise SearchTooSlow from error
                raise

    async def _attempt(self) -> Response | None:
        async with self.database.unit_of_work() as transaction:
            if self.wanted.q is not None:
                await self.database.hurry(transaction)
            one_try = (
                await IdempotencyService(transaction).begin(self.identity, self.body_hash) if self.identity else None
            )
            task = await ClaimService(transaction).claim_next(self.actor, self.wanted)
            if task is None:
                return None
            response = change_answer(task, self.actor)
            if one_try:
                await one_try.keep(kept(response))
        return response
