from collections.abc import Iterable
from datetime import datetime
from typing import Any

from app.core.auth import API_TOKEN_PREFIX
from app.core.security import hash_secret, new_secret
from app.models import ApiToken, Scope, User
from tests.builders.rows import Rows, keep_rows


async def create_token(
    session: Rows,
    user: User,
    *,
    scopes: Iterable[Scope] = tuple(Scope),
    expires_at: datetime | None = None,
    **overrides: Any,
) -> str:
    """A committed API token of the user, with all scopes unless it's narrowed: what its program sends."""
    token = API_TOKEN_PREFIX + new_secret()
    values: dict[str, Any] = {"name": "Test", "hash": hash_secret(token), "scopes": sorted(scopes)}
    session.add(ApiToken(user_id=user.id, expires_at=expires_at, **(values | overrides)))
    await keep_rows(session)
    return token
