from typing import Annotated
from uuid import UUID

from fastapi import Query, Request, Response, status

from app.api.once import Once
from app.api.paging import link_next_page
from app.api.prefix import public_path
from app.api.problems import responses
from app.api.routing import SecretRoute, api_router
from app.dependencies import ApiTokenServiceDep, CurrentUser, CurrentUserSignIn, PagerDep
from app.schemas.api_token import ApiTokenCreate, ApiTokenResponse, NewApiTokenResponse, TokenRevokedResponse
from app.schemas.fields import PageQuery
from app.services.api_token_service import NewToken

router = api_router("/users/me/tokens", tag="tokens", route_class=SecretRoute)


@router.post("", status_code=status.HTTP_201_CREATED, responses=responses(401, 403, 409), dependencies=[Once])
async def create_token(
    body: ApiTokenCreate, signed_in: CurrentUserSignIn, tokens: ApiTokenServiceDep, request: Request, response: Response
) -> NewApiTokenResponse:
    """Make a token for a program. It's shown in this answer, and never again."""
    made = await tokens.make_own(signed_in, body)
    response.headers["Location"] = public_path(request.scope, f"/api/v1/users/me/tokens/{made.row.id}")
    return shown_once(made, response)


@router.get("", responses=responses(401, 403))
async def list_tokens(
    query: Annotated[PageQuery, Query()],
    actor: CurrentUser,
    tokens: ApiTokenServiceDep,
    pager: PagerDep,
    request: Request,
    response: Response,
) -> list[ApiTokenResponse]:
    """One's own tokens, newest first. Further pages are in the `Link` header."""
    page = await tokens.list_of(actor.id, query, pager)
    link_next_page(request, response, page)
    return [ApiTokenResponse.model_validate(token) for token in page.items]


@router.get("/{token_id:uuid}", responses=responses(401, 403, 404))
async def get_token(token_id: UUID, actor: CurrentUser, tokens: ApiTokenServiceDep) -> ApiTokenResponse:
    return ApiTokenResponse.model_validate(await tokens.get(actor.id, token_id))


@router.delete("/{token_id:uuid}", responses=responses(401, 403, 404))
async def revoke_token(token_id: UUID, actor: CurrentUser, tokens: ApiTokenServiceDep) -> TokenRevokedResponse:
    """Revoke a token."""
    await tokens.revoke(actor, actor.id, token_id)
    return TokenRevokedResponse()


def shown_once(made: NewToken, response: Response) -> NewApiTokenResponse:
    response.headers["Cache-Control"] = "no-store"
    shown = ApiTokenResponse.model_validate(made.row)
    return NewApiTokenResponse(**shown.model_dump(), token=made.token)
