"""Whether strangers may register."""

from sqlalchemy import select

from app.config import Registration, Settings
from app.core.errors import Forbidden
from app.database import Database
from app.db.statements import keep
from app.models import User

_HAS_ADMIN = keep(select(select(User.id).where(User.is_admin, User.is_active).exists()))


class RegistrationClosed(Forbidden):
    code = "registration_closed"

    def __init__(self) -> None:
        super().__init__("Nobody can register here; ask an admin for an account.")


async def is_registration_open(database: Database, settings: Settings) -> bool:
    """Whether strangers may make accounts now. No connection is held afterwards."""
    if settings.registration is Registration.CLOSED:
        return False
    return not (settings.opens_until_first_admin and await _has_admin(database))


async def _has_admin(database: Database) -> bool:
    async with database.unit_of_work(is_one_statement=True, is_reading=True) as transaction:
        return bool(await transaction.scalar(_HAS_ADMIN))
