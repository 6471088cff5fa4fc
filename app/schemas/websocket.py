"""What travels over a socket besides events."""

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from app.schemas.fields import ChatText, Strict


class AuthData(Strict):
    token: str = Field(min_length=1, max_length=4_096)


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
