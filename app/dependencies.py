"""Every `Annotated` alias that endpoints declare their needs with, and nothing else."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Header, Request
from fastapi.routing import APIRoute
from fastapi.security import OAuth2PasswordBearer
from pydantic import WithJsonSchema
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import HTTPConnection

from app.config import Settings
from app.core.auth import NotSignedIn, SignedIn
from app.core.errors import MalformedInput
from app.core.etags import CONDITION
from app.core.logging import bind_user
from app.core.permissions import Actor
from app.core.security import hash_password, keyed_hash
from app.database import Database
from app.limits.sign_ins import Attempt
from app.models import Scope
from app.quick_session import QuickSession
from app.reads.task_reads import TaskReads
from app.schemas.auth import UserRegister, address_named_in
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
from app.services.idempotency_service import IdempotencyService, RequestIdentity
from app.services.job_admin import JobAdmin
from app.services.operator import AdminsOnly, AuditLog, Operator
from app.services.pages import CursorCodec, Pager
from app.services.preconditions import Precondition, precondition_of
from app.services.registration import RegistrationClosed, is_registration_open
from app.services.user_admin import UserAdmin
from app.services.whoami_service import WhoamiService
from app.session import Session
from app.state import State
from app.websockets.readers import Departure

TOKEN_URL = "/api/v1/auth/token"  # noqa: S105  # Where tokens are got, which is no secret.
bearer = OAuth2PasswordBearer(tokenUrl=TOKEN_URL, refreshUrl=TOKEN_URL, auto_error=False)


def state_of(connection: HTTPConnection) -> State:
    state: State = connection.app.state.hive
    return state


# Each of these functions is asynchronous, for one that isn't is called by another thread.
async def get_state(connection: HTTPConnection) -> State:
    return state_of(connection)


StateDep = Annotated[State, Depends(get_state)]


async def get_database(state: StateDep) -> Database:
    return state.database


async def get_settings(state: StateDep) -> Settings:
    return state.settings


DatabaseDep = Annotated[Database, Depends(get_database)]
SettingsDep = Annotated[Settings, Depends(get_settings)]


async def get_attempt(request: Request, state: StateDep) -> Attempt:
    return state.limits.attempt_from(request.scope)


# For whatever checks a secret: `async with attempt(…)` around the check limits how often it may fail.
AttemptDep = Annotated[Attempt, Depends(get_attempt)]


async def get_session(connection: HTTPConnection) -> AsyncIterator[AsyncSession]:
    async with state_of(connection).database.unit_of_work() as session:
        yield session


# The scope is the whole point: with FastAPI's default one, the transaction would be committed after the answer
# is sent, and a client would hold a 201 for a commit that then fails. Use this alias only, for a second
# declaration with another scope would be a second session.
SessionDep = Annotated[AsyncSession, Depends(get_session, scope="function")]


async def get_task_session(connection: HTTPConnection) -> AsyncIterator[QuickSession]:
    async with state_of(connection).database.quick_unit_of_work() as session:
        yield session


# The same for changes of tasks, which come often. It has as little as they need.
TaskSession = Annotated[QuickSession, Depends(get_task_session, scope="function")]


async def get_token(token: Annotated[str | None, Depends(bearer)]) -> str:
    if token is None:
        raise NotSignedIn
    return token


BearerToken = Annotated[str, Depends(get_token)]


async def get_sign_in(state: StateDep, token: BearerToken) -> SignedIn:
    # If it's looked up, then in a transaction of its own: a reader of events stays for long, and a hash takes its
    # time, and neither may keep a connection meanwhile.
    return await state.sign_ins.sign_in(token)


# Whoever it is, with whatever token. An endpoint takes one of those below, which say who may call it.
CurrentSignIn = Annotated[SignedIn, Depends(get_sign_in)]


async def get_user_sign_in(request: Request, state: StateDep, token: BearerToken) -> SignedIn:
    is_reading = request.method in {"GET", "HEAD"}
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


async def get_issuer_of_ticket(state: StateDep, token: BearerToken) -> SignedIn:
    # Looked up, as for a socket: it's for hours, and whoever ended a moment before it began would not be told of.
    signed_in = await state.sign_ins.look_up(token)
    signed_in.require(Scope.EVENTS_READ)
    return signed_in


async def get_reader_of_stream(
    request: Request, state: StateDep, session: SessionDep, token: Annotated[str | None, Depends(bearer)]
) -> SignedIn:
    ticket = request.query_params.get("ticket")
    if token is not None or ticket is None:
        return await get_issuer_of_ticket(state, await get_token(token))
    # The transaction ends where the stream begins, so a request that is refused for anything leaves the ticket unused.
    signed_in = await EventTicketService(session).redeem(ticket)
    signed_in.require(Scope.EVENTS_READ)
    bind_user(signed_in.actor.id)
    return signed_in


ClaimerSignIn = Annotated[SignedIn, Depends(get_claimer_sign_in)]
ReaderOfEvents = Annotated[SignedIn, Depends(get_reader_of_events)]
IssuerOfTicket = Annotated[SignedIn, Depends(get_issuer_of_ticket)]
ReaderOfStream = Annotated[SignedIn, Depends(get_reader_of_stream)]
UserAgent = Annotated[str, Header(include_in_schema=False)]


async def get_departure(request: Request) -> Departure:
    async def departure() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    return departure


# For who waits: it returns when the client has gone. The body must have been read before, or there must be none.
ClientDeparture = Annotated[Departure, Depends(get_departure)]


async def get_reader_seat(signed_in: ReaderOfStream, state: StateDep) -> AsyncIterator[None]:
    with state.sockets.seats.taken_by(signed_in.actor.id):
        yield


# Of the default scope on purpose: a stream keeps its seat until it has ended, however that happens.
ReaderSeat = Annotated[None, Depends(get_reader_seat)]


IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Names the request: sent again within 24 hours, it has no second effect and the same answer.",
    ),
]
NOBODY = UUID(int=0)
GetSession = Callable[[HTTPConnection], AsyncIterator[Session]]
GetOneTry = Callable[..., Awaitable[None]]


def once_by(get_caller: GetActor, get_session: GetSession = get_session) -> GetOneTry:
    """The caller is checked first: who may not do it is told nothing of its having been done."""

    async def get_one_try(
        request: Request,
        session: Annotated[Session, Depends(get_session, scope="function")],
        actor: Annotated[Actor, Depends(get_caller)],
        idempotency_key: IdempotencyKey = None,
    ) -> None:
        await _begin_once(request, session, actor.id, idempotency_key)

    return get_one_try


@dataclass(frozen=True, slots=True)
class NewAccount:
    """What somebody registers, with the hash of their password."""

    body: UserRegister
    password_hash: str


async def hash_new_password(body: UserRegister, request: Request, state: StateDep) -> bool:
    """Whether anybody may register; if not, nothing is done for who tries."""
    if not await is_registration_open(state.database, state.settings):
        return False
    registrations = state.limits.registrations
    await registrations.count(state.limits.client_of(request.scope))
    async with registrations.turn():
        request.state.new_account = NewAccount(body, await hash_password(body.password))
    return True


async def get_new_account(request: Request) -> NewAccount | None:
    # Not by declaring the body once more, whose faults would be told as often. With a faulty body there is none, and
    # the endpoint isn't called.
    return getattr(request.state, "new_account", None)


# On a route with `OnceForNobody`, which takes no connection before the password is hashed.
NewAccountDep = Annotated[NewAccount, Depends(get_new_account)]


async def get_one_try_of_nobody(
    request: Request,
    session: SessionDep,
    is_open: Annotated[bool, Depends(hash_new_password)],
    idempotency_key: IdempotencyKey = None,
) -> None:
    key = None if idempotency_key is None else await _key_of_stranger(request, idempotency_key)
    await _begin_once(request, session, NOBODY, key)
    if not is_open:
        # Who has registered before, and did not get the answer, has got it by now. All others get nothing kept.
        request.state.one_try = None
        raise RegistrationClosed


async def _key_of_stranger(request: Request, key: str) -> str:
    """The key as that of whoever comes from this address and names this account.

    Strangers choose keys that others choose too, and one must neither get nor hinder the answer of another.
    """
    state = state_of(request)
    named = [state.limits.client_of(request.scope), address_named_in(await request.body()), key]
    return keyed_hash(json.dumps(named).encode(), key=state.settings.signing_key)


async def get_request_identity(
    request: Request, actor: ClaimerOfTasks, idempotency_key: IdempotencyKey = None
) -> RequestIdentity | None:
    """For a route that begins its transactions itself."""
    return _identity(request, actor.id, idempotency_key)


RequestIdentityOfClaimer = Annotated[RequestIdentity | None, Depends(get_request_identity)]


async def hash_of_body(request: Request) -> str:
    return keyed_hash(await request.body(), key=state_of(request).settings.signing_key)


def _identity(request: Request, user_id: UUID, key: str | None) -> RequestIdentity | None:
    return None if key is None else RequestIdentity(user_id, request.method, request.url.path, key)


async def _begin_once(request: Request, session: Session, user_id: UUID, key: str | None) -> None:
    if identity := _identity(request, user_id, key):
        # `OnceRoute` finds it there when the answer is made.
        request.state.one_try = await IdempotencyService(session).begin(identity, await hash_of_body(request))


# On the routes of an `OnceRoute`: the request may carry a key by which it has its effect once.
Once = Depends(once_by(get_current_user))
OnceByWriterOfTasks = Depends(once_by(get_writer_of_tasks, get_task_session))
OnceByClaimerOfTasks = Depends(once_by(get_claimer_of_tasks, get_task_session))
OnceForNobody = Depends(get_one_try_of_nobody)


async def get_current_admin(actor: CurrentUser) -> Actor:
    if not actor.is_admin:
        raise AdminsOnly
    return actor


CurrentAdmin = Annotated[Actor, Depends(get_current_admin)]
OnceByAdmin = Depends(once_by(get_current_admin))


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


PreconditionDep = Annotated[Precondition, Depends(get_precondition)]
IfNoneMatch = Annotated[Condition | None, Header(description="The ETag of the version that one has already.")]


async def get_task_reads(state: StateDep) -> TaskReads:
    return state.task_reads


TaskReadsDep = Annotated[TaskReads, Depends(get_task_reads)]


async def get_lease_service(session: TaskSession, hive_lease_token: LeaseToken = None) -> LeaseService:
    return LeaseService(session, Precondition(lease_token=hive_lease_token))


async def get_user_writer(session: SessionDep, precondition: VersionPreconditionDep) -> UserService:
    return UserService(session, precondition)


async def get_user_admin(session: SessionDep, precondition: VersionPreconditionDep) -> UserAdmin:
    return UserAdmin(session, precondition)


async def get_task_writer(session: TaskSession, precondition: PreconditionDep) -> TaskService:
    return TaskService(session, precondition)


async def get_assignment_writer(session: TaskSession, precondition: PreconditionDep) -> AssignmentService:
    return AssignmentService(session, precondition)


async def get_claim_service(session: TaskSession, precondition: PreconditionDep) -> ClaimService:
    return ClaimService(session, precondition)


async def get_blocker_writer(session: TaskSession, precondition: PreconditionDep) -> BlockerService:
    return BlockerService(session, precondition)


async def get_batch_service(session: TaskSession, state: StateDep) -> BatchService:
    return BatchService(session, require_if_match=state.settings.require_if_match)


async def get_pager(session: SessionDep, state: StateDep) -> Pager:
    return Pager(session, CursorCodec(state.settings.signing_key))


def _over(service: Callable[..., object], get_session: GetSession = get_session) -> Any:
    """A service that needs a session and nothing else."""

    async def get_service(session: Annotated[Session, Depends(get_session, scope="function")]) -> object:
        return service(session)

    return Depends(get_service)


UserServiceDep = Annotated[UserService, _over(UserService)]
TaskServiceDep = Annotated[TaskService, _over(TaskService)]
TaskMakerDep = Annotated[TaskService, _over(TaskService, get_task_session)]
# The same for changes of what is there already, which have to meet what the caller's headers ask for.
UserWriterDep = Annotated[UserService, Depends(get_user_writer)]
AccountWriterDep = Annotated[UserAdmin, Depends(get_user_admin)]
TaskWriterDep = Annotated[TaskService, Depends(get_task_writer)]
AssignmentWriterDep = Annotated[AssignmentService, Depends(get_assignment_writer)]
ClaimServiceDep = Annotated[ClaimService, Depends(get_claim_service)]
LeaseServiceDep = Annotated[LeaseService, Depends(get_lease_service)]
BatchServiceDep = Annotated[BatchService, Depends(get_batch_service)]
BlockerServiceDep = Annotated[BlockerService, _over(BlockerService)]
BlockerWriterDep = Annotated[BlockerService, Depends(get_blocker_writer)]
SessionServiceDep = Annotated[SessionService, _over(SessionService)]
AgentServiceDep = Annotated[AgentService, _over(AgentService)]
ApiTokenServiceDep = Annotated[ApiTokenService, _over(ApiTokenService)]
EventTicketServiceDep = Annotated[EventTicketService, _over(EventTicketService)]
NotificationServiceDep = Annotated[NotificationService, _over(NotificationService)]
WhoamiServiceDep = Annotated[WhoamiService, _over(WhoamiService)]
JobAdminDep = Annotated[JobAdmin, _over(JobAdmin)]
UserAdminDep = Annotated[UserAdmin, _over(UserAdmin)]
AuditLogDep = Annotated[AuditLog, _over(AuditLog)]
PagerDep = Annotated[Pager, Depends(get_pager)]


async def refuse_unknown_parameters(request: Request) -> None:
    """Refuse query parameters that the route doesn't have. Where it has some, their model refuses the others."""
    route = request.scope.get("route")
    if not isinstance(route, APIRoute) or route.dependant.query_params:
        return
    if unknown := next(iter(request.query_params), None):
        raise MalformedInput("There is no such parameter.", field=unknown, where="query", code="extra_forbidden")


StrictParameters = Depends(refuse_unknown_parameters)
