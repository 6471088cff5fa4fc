"""Where builders put their rows."""

from sqlalchemy.ext.asyncio import AsyncSession

from app.db.transaction import Transaction

# A test's own session, in which a builder commits, or a transaction of the application, which ends by itself.
Rows = AsyncSession | Transaction


async def keep_rows(rows: Rows) -> None:
    await (rows.commit() if isinstance(rows, AsyncSession) else rows.flush())
