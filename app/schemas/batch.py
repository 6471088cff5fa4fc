"""Many changes of tasks in one request, and what became of each."""

from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from app.core.errors import MalformedInput
from app.core.etags import CONDITION, versions_in_if_match
from app.schemas.fields import Sent, Strict
from app.schemas.task import TaskAssign, TaskCreate, TaskDeletedResponse, TaskResponse, TaskStatusUpdate, TaskUpdate

MOST_ITEMS = 100


class BatchMode(StrEnum):
    ATOMIC = "atomic"  # All of them, or none.
    EACH = "each"  # Each by itself: what is refused leaves the others as they are.


def _require_tags(given: str) -> str:
    try:
        versions_in_if_match(given)
    except MalformedInput as error:
        raise PydanticCustomError("invalid_etag", "{detail}", {"detail": error.detail}) from None
    return given


IfMatch = Annotated[
    str,
    StringConstraints(min_length=1, max_length=1_000),
    AfterValidator(_require_tags),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 1_000, "pattern": CONDITION}),
]


class CreateItem(Strict):
    op: Literal["create"]
    body: TaskCreate


class ChangeItem(Strict):
    """`if_match` is what `If-Match` is for a request of its own."""

    id: UUID
    if_match: IfMatch | None = Field(default=None, examples=['"7"'])


class UpdateItem(ChangeItem):
    op: Literal["update"]
    body: TaskUpdate


class StatusItem(ChangeItem):
    op: Literal["status"]
    body: TaskStatusUpdate


class AssignItem(ChangeItem):
    op: Literal["assign"]
    body: TaskAssign


class DeleteItem(ChangeItem):
    op: Literal["delete"]


BatchItem = Annotated[CreateItem | UpdateItem | StatusItem | AssignItem | DeleteItem, Field(discriminator="op")]


class Batch(Strict):
    mode: BatchMode
    items: Annotated[list[BatchItem], Field(min_length=1, max_length=MOST_ITEMS)]

    @property
    def creations(self) -> int:
        """How many tasks it makes."""
        return sum(isinstance(item, CreateItem) for item in self.items)


class ItemDone(Sent):
    """`status` and `body` are what a request of its own would have been answered."""

    status: int
    body: TaskResponse | TaskDeletedResponse


class ItemRefused(Sent):
    """What became of an item that was refused."""

    status: int
    problem: Annotated[dict[str, Any], WithJsonSchema({"allOf": [{"$ref": "#/components/schemas/Problem"}]})]


class BatchResponse(Sent):
    items: list[ItemDone | ItemRefused]
