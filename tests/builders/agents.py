from typing import Any

from app.models import User
from tests.builders.rows import Rows, keep_rows


async def create_agent(session: Rows, *, owner: User, **overrides: Any) -> User:
    """A committed agent without a token."""
    values: dict[str, Any] = {"display_name": "Agent", "mail_notifications": False}
    agent = User(owner_id=owner.id, **(values | overrides))
    session.add(agent)
    await keep_rows(session)
    return agent
