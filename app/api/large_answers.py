"""Sends large answers in pieces, as plain ASGI, so that they are known to be in memory for as long as they are."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.limits.answers import AnswersInFlight
from app.state import State

# As much as a server takes before it has its application wait for the client.
PIECE = 64 * 1024


class LargeAnswers:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_in_pieces(message: Message) -> None:
            if len(message.get("body", b"")) <= PIECE:
                await send(message)
            else:
                state: State = scope["app"].state.hive
                await _send_pieces(message, send, state.answers)

        await self.app(scope, receive, send_in_pieces)


async def _send_pieces(message: Message, send: Send, answers: AnswersInFlight) -> None:
    body, has_more = message["body"], message.get("more_body", False)
    with answers.holding(len(body)):
        for start in range(0, len(body), PIECE):
            is_last = start + PIECE >= len(body)
            piece = body[start : start + PIECE]
            await send({"type": "http.response.body", "body": piece, "more_body": has_more or not is_last})
