"""The directory: who is in it, and its order."""

from sqlalchemy import Select, select

from app.models import User
from app.services.pages import Order, scope_of

ORDER = Order(key=User.display_name, id=User.id)
SCOPE = scope_of("users")


def select_directory() -> Select[User]:
    """Those whose accounts have not ended."""
    return select(User).where(User.is_active)
