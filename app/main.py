"""The API process: middleware, error answers, routes, and what runs beside the requests."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache, partial
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.routing import iter_route_contexts

from app import __version__
from app.api import health, metrics
from app.api.api_v1.api import add_routes, socket_router
from app.api.body_bytes import BodyBytes
from app.api.documentation import complete_document, operation_id, operation_id_at_root, serve_docs
from app.api.front_page import serve_front_page
from app.api.large_answers import LargeAnswers
from app.api.limiting import CallerPace, RequestLimits
from app.api.middleware import BodyRules, HeadAsGet, RequestContext, TrailingSlash
from app.api.once import answer_again
from app.api.prefix import PathPrefix
from app.api.problems import EVERY_ROUTE, install_problem_handlers
from app.api.refused_start import RefusedStart
from app.api.security_headers import SecurityHeaders
from app.backing import join_backing
from app.config import ConfigurationError, Settings, load_settings
from app.core.auth import SignedIn
from app.core.finishing import finished
from app.core.logging import configure_logging
from app.core.permissions import Actor
from app.core.redis import REDIS_FAILURES, PrefixedRedis, connect_redis
from app.core.sign_in_watch import SignInWatch
from app.core.sign_ins import SignIns
from app.core.worker_signs import count_workers
from app.database import Database
from app.dependencies import StrictParameters
from app.embedded import EmbeddedError
from app.events.backlog import BacklogPage, LogPosition, PageSize, read_backlog
from app.events.filters import EventFilter
from app.events.stream import EventStream
from app.events.wakeup import RelayWaker
from app.limits import Limits
from app.limits.answers import AnswersInFlight
from app.limits.requests import caller_of_user
from app.limits.turns import TooBusy, Turns
from app.memory import give_back_freed_memory
from app.metrics import Metrics
from app.origins import LOCAL_ORIGINS
from app.reads.dashboard_reads import DashboardReads
from app.reads.task_reads import TaskReads
from app.reads.user_reads import UserReads
from app.server_checks import refuse_unusable
from app.services import ChatService
from app.services.idempotency_service import Replayed
from app.services.open_tasks import OpenTasks
from app.services.pages import CursorCodec
from app.state import State
from app.websockets.connection_manager import ConnectionManager
from app.websockets.conversation import SocketServer
from app.websockets.presence import Presence
from app.websockets.seats import Seats

# What a browser's page may read of an answer, besides what it always may.
EXPOSED_HEADERS = (
    "ETag",
    "Hive-Epoch",
    "Hive-Seq",
    "Idempotency-Replayed",
    "Link",
    "Location",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "X-Request-ID",
)

# The name under which all readers wait in one line, and how many do at most: no process has more connections.
EVERYBODY = "everybody"
MOST_READERS = 65_536

log = structlog.stdlib.get_logger(__name__)


def create_app(settings: Settings) -> FastAPI:
    """The ASGI application. It touches no server before its lifespan begins."""
    app = FastAPI(
        title="HIVE",
        summary="Real-time task coordination: nothing is lost, nothing is doubled, nothing to set up.",
        version=__version__,
        # `serve_docs` does it, since these know nothing of `PUBLIC_URL`.
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan,
        generate_unique_id_function=operation_id,
        # HIVE has metrics of its own. Each request would ask three times whether there are others.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.settings = settings
    app.state.checks_servers = False
    install_problem_handlers(app)
    app.add_exception_handler(Replayed, answer_again)
    add_routes(app, with_debug=not settings.is_production)
    app.include_router(
        health.router,
        responses=EVERY_ROUTE,
        dependencies=[StrictParameters],
        generate_unique_id_function=operation_id_at_root,
    )
    app.include_router(metrics.router, responses=EVERY_ROUTE, dependencies=[StrictParameters])
    app.include_router(socket_router)
    app.include_router(socket_router, prefix="/api/v1")
    serve_front_page(app)
    if settings.serves_docs:
        serve_docs(app, public_url=settings.public_server)
    complete_document(app)
    # The last one added is the outermost: a browser's page can read every answer, that to a fault of ours too.
    app.add_middleware(LargeAnswers)
    app.add_middleware(BodyBytes)
    app.add_middleware(BodyRules)
    app.add_middleware(RequestLimits)
    app.add_middleware(RequestContext)
    app.add_middleware(TrailingSlash)
    app.add_middleware(HeadAsGet)
    own_paths = [route.path_format for route in iter_route_contexts(app.routes) if route.path_format]
    app.add_middleware(PathPrefix, prefix=settings.public_path, own_paths=own_paths)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=settings.cors_origins,
        allow_origin_regex=LOCAL_ORIGINS if settings.allows_local_origins else None,
        allow_methods=["*"],
        allow_headers=["*"],
        expose_headers=EXPOSED_HEADERS,
    )
    app.add_middleware(CallerPace)
    app.add_middleware(SecurityHeaders, is_https=settings.is_https)
    app.add_middleware(RefusedStart)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    configure_logging(settings, "api")
    try:
        backing = await asyncio.to_thread(join_backing, settings)
        if app.state.checks_servers:
            await refuse_unusable(settings, backing)
    except (ConfigurationError, EmbeddedError) as error:
        app.state.refusal = f"hive: {error}"
        raise
    async with AsyncExitStack() as stack:
        redis = connect_redis(backing.redis_url, prefix=settings.redis_prefix)
        stack.push_async_callback(redis.aclose)
        database = Database.connect(
            backing.database_url,
            application="api",
            pool_size=connections_for_requests(settings),
            search_seconds=settings.search_seconds,
        )
        stack.push_async_callback(database.close)
        # Of its own, so that requests that hold all the others' connections hold up no event.
        log_database = Database.connect(backing.database_url, application="api log", pool_size=1)
        stack.push_async_callback(log_database.close)
        # The same: who has been put out must not get in again because the others are many.
        watch_database = Database.connect(backing.database_url, application="api sign-ins", pool_size=1)
        stack.push_async_callback(watch_database.close)
        waker = RelayWaker(redis)
        database.wake_relay = waker.wake
        state = build_state(settings, database, redis_url=backing.redis_url)
        app.state.hive = state
        connections = state.sockets.connections
        stack.push_async_callback(state.redis.aclose)
        stack.push_async_callback(state.presence.leave)
        await stack.enter_async_context(_in_background(waker.run))
        await stack.enter_async_context(_in_background(state.presence.run))
        await stack.enter_async_context(_in_background(SignInWatch(watch_database, state.sign_ins.memory).run))
        await stack.enter_async_context(
            _in_background(partial(_fan_out, EventStream(log_database, redis), connections))
        )
        await stack.enter_async_context(_in_background(give_back_freed_memory))
        await stack.enter_async_context(_in_background(partial(_log_workers, state.redis)))
        log.info("the API is up")
        yield


def connections_for_requests(settings: Settings) -> int:
    """How many database connections are left when one follows the log, and one what is signed in no longer."""
    return settings.database_pool_size - 2


def build_state(settings: Settings, database: Database, *, redis_url: str) -> State:
    """Put together what the requests and sockets of one process share."""
    redis = connect_redis(redis_url, prefix=settings.redis_prefix)
    limits = Limits.of(settings, redis)
    connections = ConnectionManager()
    presence = Presence(redis, connections)
    # The readers of a process that stopped come back to another one all in the same moment, and wait for one another
    # here. Half of the connections are for requests alone.
    readers = Turns(
        partial(TooBusy, "coming back to read events"),
        at_once=max(1, connections_for_requests(settings) // 2),
        most_waiting=MOST_READERS,
    )

    sign_ins = SignIns(database, limits.known_tokens, key=settings.jwt_key)
    database.forget_sign_ins = sign_ins.memory.forget

    async def sign_in_socket(token: str) -> SignedIn:
        async with readers.of(EVERYBODY):
            # It's for hours, so it's worth a look.
            return await sign_ins.look_up(token)

    async def say(actor: Actor, message: str) -> None:
        await limits.requests.charge(caller_of_user(actor.id))
        await limits.bytes.take(actor.id, len(message.encode()))
        await finished(record(actor, message))

    async def record(actor: Actor, message: str) -> None:
        async with database.unit_of_work() as transaction:
            await ChatService(transaction).say(actor, message)

    answers = AnswersInFlight()

    async def read(actor: Actor, after: LogPosition, wanted: EventFilter, size: PageSize) -> BacklogPage:
        async def read_page() -> BacklogPage:
            async with database.unit_of_work(is_one_statement=True, is_reading=True) as transaction:
                most = size.within(answers.page_bytes)
                return await read_backlog(transaction, actor, after=after, size=most, wanted=wanted)

        # A user's own turns first, so that each has two places at most in the line of all.
        async with limits.replays.of(str(actor.id)), readers.of(EVERYBODY):
            # Readers are cancelled when they go, whatever they are at.
            return await finished(read_page())

    seats = Seats(settings.max_sockets_per_user)
    sockets = SocketServer(connections, presence, sign_in_socket, say, read, settings.socket_origins, seats)
    cursors = CursorCodec(settings.signing_key)
    return State(
        settings=settings,
        database=database,
        redis=redis,
        sign_ins=sign_ins,
        presence=presence,
        sockets=sockets,
        metrics=Metrics(database, sockets),
        limits=limits,
        answers=answers,
        open_tasks=OpenTasks(database, settings.open_tasks_per_user, per_minute=settings.requests_per_minute),
        task_reads=TaskReads(database, cursors, limits.searches, answers),
        user_reads=UserReads(database, cursors),
        dashboard_reads=DashboardReads(database),
    )


async def _fan_out(stream: EventStream, connections: ConnectionManager) -> None:
    if connections.is_following:
        # After a fault: what came of the batch that it happened in is not known, but this is.
        stream.position = connections.position
    else:
        connections.follow_from(await stream.begin())
    async for events in stream.follow():
        await connections.deliver_batch(events)


async def _log_workers(redis: PrefixedRedis) -> None:
    """Say once whether jobs would run now. Nothing depends on it: they wait in their rows until they can."""
    try:
        log.info("looked for workers", redis_answers=True, workers=await count_workers(redis))
    except REDIS_FAILURES:
        log.info("looked for workers", redis_answers=False, workers=0)


@asynccontextmanager
async def _in_background(work: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Keep the work going beside the requests, for without it the process would be deaf or mute."""
    task = asyncio.create_task(_begin_again_after_faults(work))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _begin_again_after_faults(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    while True:
        try:
            await work()
        except Exception:
            log.exception("a background task of the API broke, and begins again")
            await asyncio.sleep(1)
        else:
            return


@cache
def _application() -> FastAPI:
    settings = load_settings()
    configure_logging(settings, "api")
    app = create_app(settings)
    # `hive api` has done it before.
    app.state.checks_servers = True
    return app


def __getattr__(name: str) -> FastAPI:
    # `uvicorn app.main:app` finds its application here, and importing the module alone reads no settings.
    if name == "app":
        try:
            return _application()
        except ConfigurationError as error:
            # The stack would be that of the server's own import.
            raise SystemExit(f"hive: {error}") from error
    raise AttributeError(name)
