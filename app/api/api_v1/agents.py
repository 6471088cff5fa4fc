from typing import Annotated
from uuid import UUID

from fastapi import Query, Request, Response, status

from app.api.api_v1.tokens import shown_once
from app.api.once import Once
from app.api.paging import link_next_page
from app.api.prefix import public_path
from app.api.problems import responses
from app.api.routing import SecretRoute, api_router
from app.dependencies import AgentServiceDep, ApiTokenServiceDep, CurrentUser, CurrentUserSignIn, PagerDep
from app.schemas.agent import AgentCreate, AgentEndedResponse, AgentResponse, NewAgentResponse
from app.schemas.api_token import ApiTokenCreate, ApiTokenResponse, NewApiTokenResponse, TokenRevokedResponse
from app.schemas.fields import PageQuery

router = api_router("/agents", tag="agents", route_class=SecretRoute)


@router.post("", status_code=status.HTTP_201_CREATED, responses=responses(401, 403, 409), dependencies=[Once])
async def create_agent(
    body: AgentCreate, signed_in: CurrentUserSignIn, agents: AgentServiceDep, request: Request, response: Response
) -> NewAgentResponse:
    """Make an account for a program, which signs in by token only. Its first one is shown in this answer alone."""
    made = await agents.make(signed_in, body)
    location = public_path(request.scope, f"/api/v1/users/{made.agent.id}")
    response.headers.update({"Location": location, "Cache-Control": "no-store"})
    agent = AgentResponse.model_validate(made.agent)
    return NewAgentResponse(agent=agent, token_id=made.first.row.id, token=made.first.token)


@router.get("", responses=responses(401, 403))
async def list_agents(
    query: Annotated[PageQuery, Query()],
    actor: CurrentUser,
    agents: AgentServiceDep,
    pager: PagerDep,
    request: Request,
    response: Response,
) -> list[AgentResponse]:
    """One's own agents, newest first. Further pages are in the `Link` header."""
    page = await agents.list_own(actor, query, pager)
    link_next_page(request, response, page)
    return [AgentResponse.model_validate(agent) for agent in page.items]


@router.delete("/{agent_id:uuid}", responses=responses(401, 403, 404))
async def end_agent(agent_id: UUID, actor: CurrentUser, agents: AgentServiceDep) -> AgentEndedResponse:
    """Deactivate the agent, end its tokens and release its tasks."""
    await agents.end(actor, agent_id)
    return AgentEndedResponse()


@router.post(
    "/{agent_id:uuid}/tokens",
    status_code=status.HTTP_201_CREATED,
    responses=responses(401, 403, 404, 409),
    dependencies=[Once],
)
async def create_agent_token(
    agent_id: UUID,
    body: ApiTokenCreate,
    signed_in: CurrentUserSignIn,
    agents: AgentServiceDep,
    response: Response,
) -> NewApiTokenResponse:
    """Make a further token of the agent, so that the old one can be replaced."""
    return shown_once(await agents.make_token(signed_in, agent_id, body), response)


@router.get("/{agent_id:uuid}/tokens", responses=responses(401, 403, 404))
async def list_agent_tokens(
    agent_id: UUID,
    query: Annotated[PageQuery, Query()],
    actor: CurrentUser,
    agents: AgentServiceDep,
    tokens: ApiTokenServiceDep,
    pager: PagerDep,
    request: Request,
    response: Response,
) -> list[ApiTokenResponse]:
    """The agent's tokens, newest first. Further pages are in the `Link` header."""
    agent = await agents.find(actor, agent_id)
    page = await tokens.list_of(agent.id, query, pager)
    link_next_page(request, response, page)
    return [ApiTokenResponse.model_validate(token) for token in page.items]


@router.delete("/{agent_id:uuid}/tokens/{token_id:uuid}", responses=responses(401, 403, 404))
async def revoke_agent_token(
    agent_id: UUID, token_id: UUID, actor: CurrentUser, agents: AgentServiceDep, tokens: ApiTokenServiceDep
) -> TokenRevokedResponse:
    """Revoke a token of the agent."""
    agent = await agents.access(actor, agent_id)
    await tokens.revoke(actor, agent.id, token_id)
    return TokenRevokedResponse()
