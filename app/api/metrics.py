"""The metrics: for admins with their token, or on a port of their own for everybody who can reach it."""

from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import PlainTextResponse

from app.api.middleware import HeadAsGet, RequestContext, TrailingSlash
from app.api.problems import install_problem_handlers, responses
from app.api.security_headers import SecurityHeaders
from app.dependencies import CurrentAdmin, StateDep, StrictParameters
from app.metrics import CONTENT_TYPE
from app.state import State

router = APIRouter(tags=["monitoring"])


@router.get("/metrics", responses=responses(401, 403, 429), response_class=PlainTextResponse)
async def get_metrics(_admin: CurrentAdmin, state: StateDep) -> Response:
    """What monitoring reads, in Prometheus's text format. `METRICS_PORT` has the same without a token."""
    return Response(await state.metrics.expose(), media_type=CONTENT_TYPE)


def create_metrics_app(state: State) -> FastAPI:
    """What the port for scrapers serves: the metrics of a process that runs, without sign-in, and nothing else."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.state.hive = state
    app.state.settings = state.settings
    install_problem_handlers(app)

    @app.get("/metrics", dependencies=[StrictParameters])
    async def get_metrics_as_scraper(state: StateDep) -> Response:
        return Response(await state.metrics.expose(), media_type=CONTENT_TYPE)

    app.add_middleware(RequestContext)
    app.add_middleware(TrailingSlash)
    app.add_middleware(HeadAsGet)
    app.add_middleware(SecurityHeaders)
    return app
