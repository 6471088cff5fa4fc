from app.api.routing import api_router
from app.dependencies import StateDep
from app.schemas.dashboard import DashboardSummary

router = api_router("/dashboard", tag="dashboard")


@router.get("/summary")
async def get_summary(state: StateDep) -> DashboardSummary:
    """How many tasks and users there are. Anyone may ask. Of very many tasks the numbers may be some seconds old."""
    return await state.dashboard_reads.summarize(online=len(state.presence.online()))
