"""What travels over a socket besides events."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field, TypeAdapter

from app.schemas.event import ReadableType
from app.schemas.fields import ChatText, Optionally, Seq, Strict


class AuthData(Strict):
    """`since` is the `seq` after which the reader wants to go on, and `epoch` the history in which that is.

    `types` and `task_id` narrow what it gets.
    """

    token: str = Field(min_length=1, max_length=4_096)
    since: Seq | None = None
    epoch: UUID | None = None
    types: Optionally[frozenset[ReadableType]] = frozenset()
    task_id: UUID | None = None


class AuthMessage(Strict):
    """The first message of a socket whose token isn't in its address."""

    type: Literal["auth"]
    data: AuthData


class PingMessage(Strict):
    """Answered by a `pong` with the same `data`."""

    type: Literal["ping"]
    data: Any = None


class ChatPost(Strict):
    message: ChatText


class ChatMessagePost(Strict):
    """Goes to every client that is connected, as a `chat.message` event."""

    type: Literal["chat.message"]
    data: ChatPost


ClientMessage = Annotated[PingMessage | ChatMessagePost, Field(discriminator="type")]
auth_message: TypeAdapter[AuthMessage] = TypeAdapter(AuthMessage)
client_message: TypeAdapter[PingMessage | ChatMessagePost] = TypeAdapter(ClientMessage)
