"""Every `Annotated` alias that endpoints declare their needs with, and nothing else."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Annotated, Any

from fastapi import Depends, Header, Request
from fastapi.routing import APIRoute
from fastapi.security import OAuth2PasswordBearer
from pydantic import WithJsonSchema
from starlette.requests import HTTPConnection

from app.core.auth import NotSignedIn, SignedIn
from app.core.bearer import bearer_token
from app.core.errors import MalformedInput
from app.core.etags import CONDITION
from app.core.permissions import Actor, require_admin
from app.db.transaction import Transaction
from app.limits.sign_ins import Attempt
from app.models import Scope
from app.reads.task_reads import TaskReads
from app.services import (
    AssignmentService,
    BatchService,
    BlockerService,
    ClaimService,
    LeaseService,
    NotificationService,
    SessionService,
    TaskService,
    UserService,
)
from app.services.agent_service import AgentService
from app.services.api_token_service import ApiTokenService
from app.services.event_ticket_service import EventTicketService
from app.services.job_admin import JobAdmin
from app.services.operator import AuditLog, Operator
from app.services.pages import CursorCodec, Pager
from app.services.preconditions import Precondition, precondition_of
from app.services.user_admin import UserAdmin
from app.services.whoami_service import WhoamiService
from app.state import State
from app.websockets.readers import Departure

# Where the route of a request keeps its transaction.
TRANSACTION = "hive_transaction"
READING_METHODS = frozenset({"GET", "HEAD"})
TOKEN_URL = "/api/v1/auth/token"  # noqa: S105  # Where tokens are got, which is no secret.


class Bearer(OAuth2PasswordBearer):
    """The bearer scheme of the OpenAPI document. It reads the token as the rate limits do."""

    async def __call__(self, request: HTTPConnection) -> str | None:
        return bearer_token(request.scope)


# The name in the document is what generated clients know it by.
bearer = Bearer(TOKEN_URL, "OAuth2PasswordBearer", refreshUrl=TOKEN_URL, auto_error=False)


def state_of(connection: HTTPConnection) -> State:
    state: State = connection.app.state.hive
    return state


# Each of these functions is asynchronous, for one that isn't is called by another thread.
async def get_state(connection: HTTPConnection) -> State:
    return state_of(connection)


StateDep = Annotated[State, Depends(get_state)]


async def get_attempt(request: Request, state: StateDep) -> Attempt:
    return state.limits.attempt_from(request.scope)


# For whatever checks a secret: `async with attempt(…)` around the check limits how often it may fail.
AttemptDep = Annotated[Attempt, Depends(get_attempt)]


async def get_transaction(connection: HTTPConnection) -> Transaction:
    transaction: Transaction = connection.scope[TRANSACTION]
    return transaction


# The one transaction of the request. Its route commits it when the answer is made and before it leaves: a client would
# else hold a 201 for a commit that then fails.
TransactionDep = Annotated[Transaction, Depends(get_transaction)]


async def get_token(token: Annotated[str | None, Depends(bearer)]) -> str:
    if token is None:
        raise NotSignedIn
    return token


BearerToken = Annotated[str, Depends(get_token)]


async def get_sign_in(state: StateDep, token: BearerToken) -> SignedIn:
    # If it's looked up, then in a transaction of its own: a reader of events stays for long, and a hash takes its
    # time, and neither may keep a connection meanwhile.
    return await state.sign_ins.sign_in(token)


# A caller with any valid token. An endpoint takes one of those below, which say who may call it.
CurrentSignIn = Annotated[SignedIn, Depends(get_sign_in)]


async def get_user_sign_in(request: Request, state: StateDep, token: BearerToken) -> SignedIn:
    is_reading = request.method in READING_METHODS
    # What is closed to API tokens changes accounts and what they are entered by. Who was put out a moment ago must
    # not leave another way in behind.
    signed_in = await (state.sign_ins.sign_in(token) if is_reading else state.sign_ins.look_up(token))
    signed_in.require_session()
    return signed_in


CurrentUserSignIn = Annotated[SignedIn, Depends(get_user_sign_in)]


async def get_current_user(signed_in: CurrentUserSignIn) -> Actor:
    return signed_in.actor


# Somebody who has signed in. A route that asks for them is closed to API tokens.
CurrentUser = Annotated[Actor, Depends(get_current_user)]
GetActor = Callable[..., Awaitable[Actor]]


def caller_with(scope: Scope) -> GetActor:
    async def get_caller(signed_in: CurrentSignIn) -> Actor:
        signed_in.require(scope)
        return signed_in.actor

    return get_caller


get_writer_of_tasks = caller_with(Scope.TASKS_WRITE)
get_claimer_of_tasks = caller_with(Scope.TASKS_CLAIM)

# The same, or a program with an API token of that scope.
ReaderOfTasks = Annotated[Actor, Depends(caller_with(Scope.TASKS_READ))]
WriterOfTasks = Annotated[Actor, Depends(get_writer_of_tasks)]
ClaimerOfTasks = Annotated[Actor, Depends(get_claimer_of_tasks)]


async def get_claimer_sign_in(signed_in: CurrentSignIn) -> SignedIn:
    signed_in.require(Scope.TASKS_CLAIM)
    return signed_in


async def get_reader_of_events(signed_in: CurrentSignIn) -> SignedIn:
    signed_in.require(Scope.EVENTS_READ)
    return signed_in


ClaimerSignIn = Annotated[SignedIn, Depends(get_claimer_sign_in)]
ReaderOfEvents = Annotated[SignedIn, Depends(get_reader_of_events)]
UserAgent = Annotated[str, Header(include_in_schema=False)]


async def get_departure(request: Request) -> Departure:
    async def departure() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    return departure


# For who waits: it returns when the client has gone. The body must have been read before, or there must be none.
ClientDeparture = Annotated[Departure, Depends(get_departure)]


async def get_current_admin(actor: CurrentUser) -> Actor:
    require_admin(actor)
    return actor


CurrentAdmin = Annotated[Actor, Depends(get_current_admin)]


async def get_operator(admin: CurrentAdmin, state: StateDep, request: Request) -> Operator:
    return Operator(admin, state.limits.client_of(request.scope))


# An admin, and where their request comes from.
CurrentOperator = Annotated[Operator, Depends(get_operator)]


LeaseToken = Annotated[
    int | None, Header(ge=0, le=2**53 - 1, description="What one holds the task by; refused once that is over.")
]


# It's checked where it's read, for the answer to say how to write it.
Condition = Annotated[str, WithJsonSchema({"type": "string", "pattern": CONDITION})]


async def get_version_precondition(
    state: StateDep,
    if_match: Annotated[
        Condition | None, Header(description="The ETag of the version that the change is meant for.")
    ] = None,
) -> Precondition:
    return precondition_of(if_match, is_required=state.settings.require_if_match)


VersionPreconditionDep = Annotated[Precondition, Depends(get_version_precondition)]


async def get_precondition(precondition: VersionPreconditionDep, hive_lease_token: LeaseToken = None) -> Precondition:
    return replace(precondition, lease_token=hive_lease_token)


IfNoneMatch = Annotated[Condition | None, Header(description="The ETag of the version that one has already.")]


async def get_task_reads(state: StateDep) -> TaskReads:
    return state.task_reads


TaskReadsDep = Annotated[TaskReads, Depends(get_task_reads)]


async def get_lease_service(transaction: TransactionDep, hive_lease_token: LeaseToken = None) -> LeaseService:
    return LeaseService(transaction, Precondition(lease_token=hive_lease_token))


async def get_task_maker(transaction: TransactionDep) -> TaskService:
    # A task, its event and what follows from it are one statement, unless there is something to read before.
    transaction.is_one_change = True
    return TaskService(transaction)


async def get_batch_service(transaction: TransactionDep, state: StateDep) -> BatchService:
    return BatchService(transaction, require_if_match=state.settings.require_if_match)


async def get_pager(transaction: TransactionDep, state: StateDep) -> Pager:
    return Pager(transaction, CursorCodec(state.settings.signing_key))


def _over(service: Callable[[Transaction], object]) -> Any:
    """A service that needs a transaction and nothing else."""

    async def get_service(transaction: TransactionDep) -> object:
        return service(transaction)

    return Depends(get_service)


def _changing(
    service: Callable[[Transaction, Precondition], object], get_conditions: Callable[..., Awaitable[Precondition]]
) -> Any:
    """A service that changes what is there, which has to meet what the caller's headers ask for."""

    async def get_service(
        transaction: TransactionDep, precondition: Annotated[Precondition, Depends(get_conditions)]
    ) -> object:
        return service(transaction, precondition)

    return Depends(get_service)


NewTaskDep = Annotated[TaskService, Depends(get_task_maker)]
TaskServiceDep = Annotated[TaskService, _over(TaskService)]
TaskWriterDep = Annotated[TaskService, _changing(TaskService, get_precondition)]
AssignmentWriterDep = Annotated[AssignmentService, _changing(AssignmentService, get_precondition)]
ClaimServiceDep = Annotated[ClaimService, _changing(ClaimService, get_precondition)]
LeaseServiceDep = Annotated[LeaseService, Depends(get_lease_service)]
BatchServiceDep = Annotated[BatchService, Depends(get_batch_service)]
BlockerServiceDep = Annotated[BlockerService, _over(BlockerService)]
BlockerWriterDep = Annotated[BlockerService, _changing(BlockerService, get_precondition)]
UserServiceDep = Annotated[UserService, _over(UserService)]
UserWriterDep = Annotated[UserService, _changing(UserService, get_version_precondition)]
UserAdminDep = Annotated[UserAdmin, _over(UserAdmin)]
AccountWriterDep = Annotated[UserAdmin, _changing(UserAdmin, get_version_precondition)]
SessionServiceDep = Annotated[SessionService, _over(SessionService)]
AgentServiceDep = Annotated[AgentService, _over(AgentService)]
ApiTokenServiceDep = Annotated[ApiTokenService, _over(ApiTokenService)]
EventTicketServiceDep = Annotated[EventTicketService, _over(EventTicketService)]
NotificationServiceDep = Annotated[NotificationService, _over(NotificationService)]
WhoamiServiceDep = Annotated[WhoamiService, _over(WhoamiService)]
JobAdminDep = Annotated[JobAdmin, _over(JobAdmin)]
AuditLogDep = Annotated[AuditLog, _over(AuditLog)]
PagerDep = Annotated[Pager, Depends(get_pager)]


async def refuse_unknown_parameters(request: Request) -> None:
    """Refuse query parameters that the route doesn't have. Where it has some, their model refuses the others."""
    if not request.scope["query_string"]:
        return
    route = request.scope.get("route")
    if not isinstance(route, APIRoute) or route.dependant.query_params:
        return
    if unknown := next(iter(request.query_params), None):
        raise MalformedInput("There is no such parameter.", field=unknown, where="query", code="extra_forbidden")


StrictParameters = Depends(refuse_unknown_parameters)
