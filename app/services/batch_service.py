from asyncpg import PostgresError

from app.core.errors import HiveError, from_database
from app.core.permissions import Actor
from app.db.transaction import Transaction
from app.models import Task
from app.schemas.batch import (
    AssignItem,
    Batch,
    BatchItem,
    BatchMode,
    CreateItem,
    DeleteItem,
    ItemDone,
    ItemRefused,
    StatusItem,
    UpdateItem,
)
from app.schemas.task import TaskDeletedResponse, TaskResponse
from app.services.assignment_service import AssignmentService
from app.services.batch_locks import lock_for
from app.services.preconditions import precondition_of
from app.services.task_service import TaskService

# What a refused item raises, said by HIVE or by the database.
REFUSALS = (HiveError, PostgresError)


class BatchFailed(HiveError):
    """`index` is the item that was refused, with the status of this answer, and `problem` says why."""

    code = "batch_failed"

    def __init__(self, index: int, refusal: HiveError) -> None:
        super().__init__(
            f"Nothing was changed, for item {index} was refused: {refusal.detail}",
            status=refusal.status_code,
            index=index,
            problem=refusal.as_problem(),
        )


class BatchService:
    """Many changes of tasks in one transaction, each as a request of its own would make it."""

    def __init__(self, transaction: Transaction, *, require_if_match: bool = False) -> None:
        self._transaction = transaction
        self._require_if_match = require_if_match

    async def run(self, actor: Actor, batch: Batch) -> list[ItemDone | ItemRefused]:
        """Do the items in their order.

        Raises:
            BatchFailed: one of an atomic batch was refused.
        """
        await lock_for(self._transaction, actor, batch.items)
        if batch.mode is BatchMode.EACH:
            return [await self._try(actor, item) for item in batch.items]
        return [await self._insist(actor, item, index) for index, item in enumerate(batch.items)]

    async def _try(self, actor: Actor, item: BatchItem) -> ItemDone | ItemRefused:
        savepoint = await self._transaction.savepoint()
        try:
            done = await self._do(actor, item)
            await savepoint.release()
        except REFUSALS as error:
            refusal = _refusal_in(error)
            await savepoint.undo()
            return ItemRefused(status=refusal.status_code, problem=refusal.as_problem())
        return done

    async def _insist(self, actor: Actor, item: BatchItem, index: int) -> ItemDone:
        try:
            return await self._do(actor, item)
        except REFUSALS as error:
            raise BatchFailed(index, _refusal_in(error)) from error

    async def _do(self, actor: Actor, item: BatchItem) -> ItemDone:
        if isinstance(item, CreateItem):
            return _done(actor, await TaskService(self._transaction).create(actor, item.body), status=201)
        precondition = precondition_of(item.if_match, is_required=self._require_if_match)
        tasks = TaskService(self._transaction, precondition)
        match item:
            case UpdateItem():
                return _done(actor, await tasks.update(actor, item.id, item.body))
            case StatusItem():
                return _done(actor, await tasks.change_status(actor, item.id, item.body.status))
            case AssignItem():
                assignments = AssignmentService(self._transaction, precondition)
                return _done(actor, await assignments.assign(actor, item.id, item.body.user_id))
            case DeleteItem():
                await tasks.delete(actor, item.id)
                return ItemDone(status=200, body=TaskDeletedResponse())


def _done(actor: Actor, task: Task, *, status: int = 200) -> ItemDone:
    # At once: a later item may be about the same task, or be taken back together with what was loaded for it.
    return ItemDone(status=status, body=TaskResponse.of(task, viewer=actor.id))


def _refusal_in(error: Exception) -> HiveError:
    """What an item was answered. What broke is no answer, and ends the batch, which can be tried again."""
    refusal = error if isinstance(error, HiveError) else from_database(error)
    if refusal is None or refusal.status_code >= 500:
        raise error
    return refusal
