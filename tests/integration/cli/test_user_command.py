"""`hive user create` makes an account as registration does."""

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.cli.accounts import create_account
from app.models import User

ADA = {"email": "ada@example.org", "name": "", "password": "correct horse battery"}


@pytest.mark.committed
async def test_an_account_is_made_with_its_time_zone(session: AsyncSession, database_url: str) -> None:
    await create_account(database_url, **ADA, is_admin=False, time_zone="Asia/Tokyo")

    [made] = await session.scalars(select(User))
    assert (made.email, made.time_zone, made.is_admin) == (ADA["email"], "Asia/Tokyo", False)


async def test_an_unknown_time_zone_is_told_in_a_sentence(database_url: str) -> None:
    with pytest.raises(ValueError, match=r"^time_zone: There is no time zone of this name"):
        await create_account(database_url, **ADA, is_admin=False, time_zone="Asia/Atlantis")
