from datetime import UTC, datetime
from itertools import count
from typing import Any

from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from app.models import User, UserSession
from tests.builders.rows import Rows, keep_rows

PASSWORD = "correct horse battery"
# The weakest parameters that argon2 has, made once: a test should not pay for a strong hash that it doesn't look at.
_HASH = PasswordHash((Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1),)).hash(PASSWORD)
_KEPT_BY_NOTHING: dict[str, Any] = {"current_hash": "", "expires_at": datetime(2999, 1, 1, tzinfo=UTC)}
_numbers = count(1)


async def create_user(session: Rows, **overrides: Any) -> User:
    """A committed user who signs in with `PASSWORD`, and has a session with their own id, which no token keeps up."""
    number = next(_numbers)
    values: dict[str, Any] = {
        "email": f"user{number}@example.org",
        "display_name": f"User {number}",
        "password_hash": _HASH,
        "email_confirmed_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    user = User(**(values | overrides))
    session.add(user)
    await session.flush()
    session.add(UserSession(id=user.id, user_id=user.id, family_hash=f"{user.id}", **_KEPT_BY_NOTHING))
    await keep_rows(session)
    return user
