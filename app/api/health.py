from fastapi import APIRouter

from app.api.problems import responses
from app.dependencies import StateDep
from app.health import SharedReadiness
from app.schemas.health import HealthResponse, ReadyResponse

router = APIRouter(prefix="/health", tags=["health"])
readiness = SharedReadiness()


@router.get("")
async def get_health() -> HealthResponse:
    """Whether this process lives. It touches nothing else."""
    return HealthResponse()


@router.get("/ready", responses=responses(429, 503))
async def get_readiness(state: StateDep) -> ReadyResponse:
    """Whether all parts of the system are there; 503 says which is missing."""
    return await readiness.check(state)
