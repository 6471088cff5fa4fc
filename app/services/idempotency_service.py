"""Requests that have one effect however often they come."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import timedelta
from uuid import UUID

from sqlalchemy import Interval, bindparam, func, literal_column, select
from sqlalchemy.dialects.postgresql import insert

from app.core.errors import Conflict, HiveError
from app.database import Database
from app.db.purging import purge_some
from app.db.statements import keep
from app.db.transaction import Savepoint, Transaction
from app.models import IdempotentRequest

KEEP = timedelta(hours=24)
# Their answers are large rows: one of a batch may have megabytes.
PURGED_AT_ONCE = 1_000


class StillRunning(Conflict):
    code = "request_in_progress"

    def __init__(self) -> None:
        super().__init__(
            "The first request with this Idempotency-Key is still running; ask again for its answer.",
            headers={"Retry-After": "1"},
        )


class KeyReused(HiveError):
    status = 422
    code = "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key was used for a request with another body.")


@dataclass(frozen=True, slots=True)
class RequestIdentity:
    """Which request it is: the same one comes from the same user, by the same way, under the same key."""

    user_id: UUID
    method: str
    path: str
    key: str

    @property
    def lock(self) -> str:
        return f"{self.user_id} {self.method} {self.path} {self.key}"


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    status: int
    headers: Mapping[str, str]
    body: str


class Replayed(Exception):
    """The request was done before; this is what it was answered."""

    def __init__(self, answer: KeptAnswer) -> None:
        super().__init__()
        self.answer = answer


class OneTry:
    """A request that is being done for the first time, within a savepoint of its transaction."""

    def __init__(
        self, transaction: Transaction, savepoint: Savepoint, identity: RequestIdentity, body_hash: str
    ) -> None:
        self._transaction = transaction
        self._savepoint = savepoint
        self._identity = identity
        self._body_hash = body_hash

    async def undo(self) -> None:
        """Take back what the request has written, for it was refused."""
        await self._savepoint.undo()

    async def keep(self, answer: KeptAnswer) -> None:
        """Keep the answer in the transaction of its effect."""
        await self._savepoint.release()
        values = asdict(self._identity) | asdict(answer) | {"body_hash": self._body_hash}
        await self._transaction.execute(_KEEP, {f"kept_{name}": value for name, value in values.items()})


_TRY_LOCK = keep(
    select(func.pg_try_advisory_xact_lock(func.hashtextextended(bindparam("identity"), literal_column("0"))))
)
_SAME = [getattr(IdempotentRequest, part.name) == bindparam(f"{part.name}_asked") for part in fields(RequestIdentity)]
_FIND = keep(
    select(IdempotentRequest).where(
        *_SAME, IdempotentRequest.created_at >= func.now() - bindparam("keep_time", type_=Interval())
    )
)
_COLUMNS = ("user_id", "method", "path", "key", "body_hash", "status", "headers", "body")
_KEEP_ANSWER = insert(IdempotentRequest).values({name: bindparam(f"kept_{name}") for name in _COLUMNS})
# One that has run out, and was not purged yet, gives its place to the new one.
_KEEP = keep(
    _KEEP_ANSWER.on_conflict_do_update(
        index_elements=[part.name for part in fields(RequestIdentity)],
        set_={name: _KEEP_ANSWER.excluded[name] for name in _COLUMNS[4:]} | {"created_at": func.now()},
    )
)


async def replay_if_kept(database: Database, identity: RequestIdentity, body_hash: str) -> None:
    """Look whether the request was done before, without holding anything afterwards.

    Raises:
        Replayed: it was.
        KeyReused: it was done with another body.
    """
    async with database.unit_of_work(is_one_statement=True, is_reading=True) as transaction:
        await IdempotencyService(transaction).replay_if_kept(identity, body_hash)


class IdempotencyService:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def begin(self, identity: RequestIdentity, body_hash: str) -> OneTry:
        """Begin the request.

        The lock lasts as long as the transaction, so the next one to have it finds what this one has kept.

        Raises:
            Replayed: it was done before.
            StillRunning: the same request is being done at the moment.
            KeyReused: it was done with another body.
        """
        if not await self._transaction.scalar(_TRY_LOCK, {"identity": identity.lock}):
            raise StillRunning
        # Another statement than the lock's, or it would not see what was committed while the lock was waited for.
        await self.replay_if_kept(identity, body_hash)
        return OneTry(self._transaction, await self._transaction.savepoint(), identity, body_hash)

    async def purge(self) -> bool:
        """Forget some of the answers that are past their keep time; whether there may be more."""
        is_old = IdempotentRequest.created_at < func.now() - KEEP
        return await purge_some(self._transaction, IdempotentRequest, is_old, most=PURGED_AT_ONCE)

    async def replay_if_kept(self, identity: RequestIdentity, body_hash: str) -> None:
        """Raises `Replayed` or `KeyReused` if an answer is kept."""
        same = {f"{name}_asked": value for name, value in asdict(identity).items()}
        kept: IdempotentRequest | None = await self._transaction.scalar(_FIND, same | {"keep_time": KEEP})
        if kept is None:
            return
        if kept.body_hash != body_hash:
            raise KeyReused
        raise Replayed(KeptAnswer(kept.status, kept.headers, kept.body))
