"""Whether strangers may register."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Registration, Settings
from app.core.errors import Forbidden
from app.models import User


class RegistrationClosed(Forbidden):
    code = "registration_closed"

    def __init__(self) -> None:
        super().__init__("Nobody can register here; ask an admin for an account.")


async def require_open_registration(session: AsyncSession, settings: Settings) -> None:
    """
    Raises:
        RegistrationClosed: strangers may not make accounts.
    """
    is_closed = settings.registration is Registration.CLOSED
    if is_closed or (settings.opens_until_first_admin and await _has_admin(session)):
        raise RegistrationClosed


async def _has_admin(session: AsyncSession) -> bool:
    return bool(await session.scalar(select(select(User.id).where(User.is_admin, User.is_active).exists())))
