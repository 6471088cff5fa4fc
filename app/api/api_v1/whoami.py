from fastapi import APIRouter

from app.api.problems import responses
from app.dependencies import CurrentSignIn, WhoamiServiceDep
from app.schemas.whoami import WhoamiResponse

router = APIRouter(prefix="/whoami", tags=["auth"])


@router.get("", responses=responses(401))
async def get_whoami(signed_in: CurrentSignIn, whoami: WhoamiServiceDep) -> WhoamiResponse:
    """Tell whom the token speaks for. Any valid token may ask, whatever its scopes."""
    return await whoami.tell(signed_in)
