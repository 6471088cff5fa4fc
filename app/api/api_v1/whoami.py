from app.api.problems import responses
from app.api.routing import api_router
from app.dependencies import CurrentSignIn, WhoamiServiceDep
from app.schemas.whoami import WhoamiResponse

router = api_router("/whoami", tag="auth")


@router.get("", responses=responses(401))
async def get_whoami(signed_in: CurrentSignIn, whoami: WhoamiServiceDep) -> WhoamiResponse:
    """Tell whom the token speaks for. Any valid token may ask, whatever its scopes."""
    return await whoami.tell(signed_in)
