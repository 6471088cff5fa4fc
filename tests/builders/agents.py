from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.models import User


async def create_agent(session: AsyncSession, *, owner: User, **overrides: Any) -> User:
    """A committed agent without a token."""
    values: dict[str, Any] = {"display_name": "Agent", "mail_notifications": False}
    agent = User(owner_id=owner.id, **(values | overrides))
    session.add(agent)
    await session.commit()
    return agent
