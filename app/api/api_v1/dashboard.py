from fastapi import APIRouter

from app.dependencies import DashboardServiceDep, PresenceDep
from app.schemas.dashboard import DashboardSummary

router = APIRouter(prefix="/dashboard", tags=["dashboard"])


@router.get("/summary")
async def get_summary(dashboard: DashboardServiceDep, presence: PresenceDep) -> DashboardSummary:
    """How many tasks and users there are. Anyone may ask."""
    return await dashboard.summarize(online=len(presence.online()))
