from typing import Annotated
from uuid import UUID

from fastapi import Body, Query, Request, Response

from app.api.once import OnceByAdmin
from app.api.paging import link_next_page
from app.api.problems import READ_VERSION, WRITE_VERSION, responses
from app.api.routing import api_router
from app.core.etags import etag_of, refuse_known
from app.dependencies import AccountWriterDep, CurrentAdmin, CurrentOperator, IfNoneMatch, PagerDep, UserAdminDep
from app.models import User
from app.schemas.admin import AccountQuery, AdminUserResponse, SetPassword, SignOut
from app.services.user_admin import UserAdmin

router = api_router("/admin/users", tag="admin")
ONE = "/{user_id:uuid}"
CHANGE = responses(401, 403, 404, 409) | WRITE_VERSION


@router.get("", responses=responses(401, 403))
async def list_accounts(
    query: Annotated[AccountQuery, Query()],
    _admin: CurrentAdmin,
    accounts: UserAdminDep,
    pager: PagerDep,
    request: Request,
    response: Response,
) -> list[AdminUserResponse]:
    """All accounts with their addresses, newest first, ended ones too. Further pages are in the `Link` header."""
    page = await accounts.list_accounts(query, pager)
    link_next_page(request, response, page)
    return await accounts.show(page.items)


@router.get(ONE, responses=responses(401, 403, 404) | READ_VERSION)
async def get_account(
    user_id: UUID, _admin: CurrentAdmin, accounts: UserAdminDep, response: Response, if_none_match: IfNoneMatch = None
) -> AdminUserResponse:
    """One account."""
    user = await accounts.get(user_id)
    refuse_known(if_none_match, user.version)
    return await _shown(accounts, user, response)


@router.post(f"{ONE}/deactivate", responses=CHANGE, dependencies=[OnceByAdmin])
async def deactivate_account(
    user_id: UUID, operator: CurrentOperator, accounts: AccountWriterDep, response: Response
) -> AdminUserResponse:
    """End the account and its agents: sessions, tokens and sockets end, and what it holds becomes available."""
    return await _shown(accounts, await accounts.deactivate(operator, user_id), response)


@router.post(f"{ONE}/reactivate", responses=CHANGE, dependencies=[OnceByAdmin])
async def reactivate_account(
    user_id: UUID, operator: CurrentOperator, accounts: AccountWriterDep, response: Response
) -> AdminUserResponse:
    """Let an account that has ended begin anew, with its address and password."""
    return await _shown(accounts, await accounts.reactivate(operator, user_id), response)


@router.post(f"{ONE}/promote", responses=CHANGE, dependencies=[OnceByAdmin])
async def promote_account(
    user_id: UUID, operator: CurrentOperator, accounts: AccountWriterDep, response: Response
) -> AdminUserResponse:
    """Make an admin of a person."""
    return await _shown(accounts, await accounts.promote(operator, user_id), response)


@router.post(f"{ONE}/demote", responses=CHANGE, dependencies=[OnceByAdmin])
async def demote_account(
    user_id: UUID, operator: CurrentOperator, accounts: AccountWriterDep, response: Response
) -> AdminUserResponse:
    """Take an admin's rights. The last active admin stays."""
    return await _shown(accounts, await accounts.demote(operator, user_id), response)


@router.post(f"{ONE}/sign-out", responses=CHANGE, dependencies=[OnceByAdmin])
async def sign_out_account(
    user_id: UUID,
    operator: CurrentOperator,
    accounts: AccountWriterDep,
    response: Response,
    body: Annotated[SignOut, Body()] = SignOut(),  # noqa: B008  # It's frozen.
) -> AdminUserResponse:
    """End all sessions of the account, and its API tokens and those of its agents."""
    user = await accounts.sign_out(operator, user_id, keep_tokens=body.keep_tokens)
    return await _shown(accounts, user, response)


@router.post(f"{ONE}/set-password", responses=CHANGE, dependencies=[OnceByAdmin])
async def set_account_password(
    user_id: UUID, body: SetPassword, operator: CurrentOperator, accounts: AccountWriterDep, response: Response
) -> AdminUserResponse:
    """Give a person another password, and end what was opened with the old one."""
    user = await accounts.set_password(operator, user_id, body.password, keep_tokens=body.keep_tokens)
    return await _shown(accounts, user, response)


async def _shown(accounts: UserAdmin, user: User, response: Response) -> AdminUserResponse:
    response.headers["ETag"] = etag_of(user.version)
    [shown] = await accounts.show([user])
    return shown
