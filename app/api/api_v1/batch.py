from app.api.once import OnceByWriterOfTasks
from app.api.problems import WRITE_VERSION, responses
from app.api.routing import api_router
from app.dependencies import BatchServiceDep, StateDep, TransactionDep, WriterOfTasks
from app.limits.requests import caller_of_user
from app.schemas.batch import Batch, BatchResponse

router = api_router("/tasks/batch", tag="tasks")


@router.post("", responses=responses(401, 403, 404, 409) | WRITE_VERSION, dependencies=[OnceByWriterOfTasks])
async def change_many_tasks(
    body: Batch, actor: WriterOfTasks, batches: BatchServiceDep, state: StateDep, transaction: TransactionDep
) -> BatchResponse:
    """Up to 100 changes at once, by the same rules as one by one.

    `atomic` does all of them or, when one is refused, none: the answer has its status then, and its `index`. `each`
    does what can be done, and says of each item what became of it. Each item counts as a request.
    """
    state.answers.require_room()
    await state.limits.requests.count_further(caller_of_user(actor.id), len(body.items) - 1)
    async with state.limits.batches.of(str(actor.id)):
        await state.open_tasks.require_room(actor.id, tasks=body.creations)
        # What its key says is about all of it, and not about its first item.
        await transaction.begin()
        return BatchResponse(items=await batches.run(actor, body))
