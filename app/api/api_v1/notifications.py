from typing import Annotated
from uuid import UUID

from fastapi import Query, Request, Response

from app.api.once import Once
from app.api.paging import link_next_page
from app.api.problems import responses
from app.api.routing import api_router
from app.dependencies import CurrentUser, NotificationServiceDep, PagerDep
from app.schemas.notification import MarkedReadResponse, NotificationListQuery, NotificationResponse

router = api_router("/notifications", tag="notifications")


@router.get("", responses=responses(401, 403))
async def list_notifications(
    query: Annotated[NotificationListQuery, Query()],
    actor: CurrentUser,
    notifications: NotificationServiceDep,
    pager: PagerDep,
    request: Request,
    response: Response,
) -> list[NotificationResponse]:
    """One's own notifications, newest first. Further pages are in the `Link` header."""
    page = await notifications.list_own(actor, query, pager)
    link_next_page(request, response, page)
    return [NotificationResponse.model_validate(notification) for notification in page.items]


@router.post("/read", responses=responses(401, 403, 409), dependencies=[Once])
async def mark_all_notifications_read(actor: CurrentUser, notifications: NotificationServiceDep) -> MarkedReadResponse:
    """Mark all that are unread as read: of many, the newest 500 at once, and the others within moments."""
    return MarkedReadResponse(marked=await notifications.mark_all_read(actor))


@router.post("/{notification_id:uuid}/read", responses=responses(401, 403, 404, 409), dependencies=[Once])
async def mark_notification_read(
    notification_id: UUID, actor: CurrentUser, notifications: NotificationServiceDep
) -> NotificationResponse:
    """Mark one as read; again changes nothing."""
    return NotificationResponse.model_validate(await notifications.mark_read(actor, notification_id))
