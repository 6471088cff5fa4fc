"""What `hive restored` does."""

from app.core.errors import HiveError
from app.database import Database
from app.events.history import distrust_history


async def expect_new_history(database_url: str) -> None:
    """Raises ValueError with a sentence when the database can't be told."""
    database = Database.connect(database_url, application="restored")
    try:
        async with database.unit_of_work() as transaction:
            await distrust_history(transaction)
    except HiveError as error:
        raise ValueError(error.reason) from None
    finally:
        await database.close()
