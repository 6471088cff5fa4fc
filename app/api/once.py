"""Requests under an `Idempotency-Key`: keeping their answers, and giving them again."""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Header, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from app.api.problems import answer_to
from app.core.errors import Conflict, HiveError, from_database
from app.core.permissions import Actor
from app.core.security import keyed_hash
from app.db.transaction import Transaction
from app.dependencies import (
    ClaimerOfTasks,
    GetActor,
    TransactionDep,
    get_claimer_of_tasks,
    get_current_admin,
    get_current_user,
    get_writer_of_tasks,
    state_of,
)
from app.services.idempotency_service import (
    IdempotencyService,
    KeptAnswer,
    OneTry,
    Replayed,
    RequestIdentity,
    replay_if_kept,
)

KEPT_HEADERS = ("content-type", "location", "etag", "link", "www-authenticate")
# A header or a body that can't be read, a condition that was left out, and what came too often: none was tried.
NOT_TRIED = (422, 428, 429)
Handler = Callable[[Request], Coroutine[Any, Any, Response]]
AnswerToKeep = Callable[[Request, Response], Response]


IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Names the request: sent again within 24 hours, it has no second effect and the same answer.",
    ),
]
GetOneTry = Callable[..., Awaitable[None]]


def once_by(get_caller: GetActor) -> GetOneTry:
    """The caller is checked first: who may not do it is told nothing of its having been done."""

    async def get_one_try(
        request: Request,
        transaction: TransactionDep,
        actor: Annotated[Actor, Depends(get_caller)],
        idempotency_key: IdempotencyKey = None,
    ) -> None:
        await begin_once(request, transaction, actor.id, idempotency_key)

    return get_one_try


async def get_request_identity(
    request: Request, actor: ClaimerOfTasks, idempotency_key: IdempotencyKey = None
) -> RequestIdentity | None:
    """For a route that begins its transactions itself."""
    return _identity(request, actor.id, idempotency_key)


RequestIdentityOfClaimer = Annotated[RequestIdentity | None, Depends(get_request_identity)]


async def hash_of_body(request: Request) -> str:
    return keyed_hash(await body_of(request), key=state_of(request).settings.signing_key)


async def body_of(request: Request) -> bytes:
    try:
        return await request.body()
    except ClientDisconnect:
        # As FastAPI has it. Nobody reads the answer, but it's counted, and it's no fault of ours.
        raise HTTPException(400) from None


def _identity(request: Request, user_id: UUID, key: str | None) -> RequestIdentity | None:
    return None if key is None else RequestIdentity(user_id, request.method, request.url.path, key)


async def begin_once(request: Request, transaction: Transaction, user_id: UUID, key: str | None) -> None:
    """Answer again what was answered before, and else have the transaction begin under the key.

    It begins with the first statement of the endpoint: whatever waits before that, for a turn or a hash, holds no
    connection.
    """
    identity = _identity(request, user_id, key)
    if identity is None:
        return
    body_hash = await hash_of_body(request)
    await replay_if_kept(state_of(request).database, identity, body_hash)

    async def begin() -> None:
        request.state.one_try = await IdempotencyService(transaction).begin(identity, body_hash)

    transaction.begin_with(begin)


def one_try_of(request: Request) -> OneTry | None:
    """What was begun under the `Idempotency-Key` of the request, if it has one."""
    return getattr(request.state, "one_try", None)


# The request may carry a key by which it has its effect once.
Once = Depends(once_by(get_current_user))
OnceByWriterOfTasks = Depends(once_by(get_writer_of_tasks))
OnceByClaimerOfTasks = Depends(once_by(get_claimer_of_tasks))
OnceByAdmin = Depends(once_by(get_current_admin))


async def answer_once(request: Request, handle: Handler, answer_to_keep: AnswerToKeep) -> Response:
    """Answer a request, and keep the answer with its effect if `once_by` has begun it under a key.

    A refusal (4xx) is an outcome like any other. What broke (5xx) is not kept, and can be tried again; nor is what
    was not understood, or came too often, for its effect was never tried.
    """
    try:
        response = await handle(request)
    except Exception as error:
        one_try = one_try_of(request)
        refusal = error if isinstance(error, HiveError) else from_database(error)
        if one_try is None or refusal is None or not _is_outcome(refusal):
            raise
        await one_try.undo()
        response = answer_to(request, refusal)
    if one_try := one_try_of(request):
        await one_try.keep(kept(answer_to_keep(request, response)))
    return response


class SecretNotKept(Conflict):
    code = "secret_not_kept"

    def __init__(self) -> None:
        super().__init__("This was done before. Its answer had a secret, which is shown once and not kept.")


def _is_outcome(refusal: HiveError) -> bool:
    return refusal.status_code < 500 and refusal.status_code not in NOT_TRIED


def kept(response: Response) -> KeptAnswer:
    headers = {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers}
    return KeptAnswer(response.status_code, headers, bytes(response.body).decode())


def answer_again(_request: Request, replayed: Exception) -> Response:
    """The handler of `Replayed`."""
    assert isinstance(replayed, Replayed)
    answer = replayed.answer
    headers = {**answer.headers, "Idempotency-Replayed": "true"}
    return Response(answer.body, status_code=answer.status, headers=headers)
