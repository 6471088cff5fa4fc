"""What a server such as Uvicorn logs of an API that refuses to start: a sentence, and no stack."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class RefusedStart:
    """Puts `app.state.refusal`, if there is one, in the place of the stack that Starlette hands to the server."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self.app(scope, receive, send)
            return

        async def send_sentence(message: Message) -> None:
            refusal: str | None = getattr(scope["app"].state, "refusal", None)
            if message["type"] == "lifespan.startup.failed" and refusal is not None:
                message = {**message, "message": refusal}
            await send(message)

        await self.app(scope, receive, send_sentence)
