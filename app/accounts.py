"""Making accounts from the command line."""

from pydantic import ValidationError

from app.core.errors import HiveError
from app.database import Database
from app.schemas.auth import UserRegister
from app.services import UserService


async def create_account(database_url: str, *, email: str, name: str, password: str, is_admin: bool) -> None:
    """Raises ValueError with a sentence when the account can't be made."""
    database = Database.connect(database_url, application="user create")
    try:
        new = UserRegister(email=email, display_name=name or None, password=password)
        async with database.unit_of_work() as session:
            await UserService(session).register(new, is_admin=is_admin)
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise ValueError("; ".join(faults)) from None
    except HiveError as error:
        raise ValueError(error.detail) from None
    finally:
        await database.close()
