"""What the models are like, and their ids."""

import asyncio
from uuid import UUID

from uuid_utils.compat import uuid7

from app.models import Base, EventLog, EventTicket, IdempotentRequest, SignInChange, TaskBlocker
from app.models.base import Identified


async def test_ids_made_by_many_at_once_are_different() -> None:
    made = await asyncio.gather(*(asyncio.to_thread(lambda: [uuid7() for _ in range(1_000)]) for _ in range(4)))

    ids: set[UUID] = {one for some in made for one in some}
    assert len(ids) == 4_000


# The log's own one row, and those that are named by what they are about.
NAMED_OTHERWISE = {EventLog, EventTicket, IdempotentRequest, TaskBlocker, SignInChange}


def test_every_table_has_a_uuid_for_its_key_but_those_named_otherwise() -> None:
    for mapper in Base.registry.mappers:
        assert issubclass(mapper.class_, Identified) != (mapper.class_ in NAMED_OTHERWISE)


def test_no_relationship_loads_by_itself() -> None:
    """Loading one in the middle of an answer would be I/O where there can be none."""
    for mapper in Base.registry.mappers:
        for relationship in mapper.relationships:
            assert relationship.lazy in {"raise", "raise_on_sql"}, relationship


def test_no_vocabulary_is_a_native_enum() -> None:
    for table in Base.metadata.tables.values():
        for column in table.columns:
            assert type(column.type).__name__ != "Enum", column
