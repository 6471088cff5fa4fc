"""What every answer tells browsers to refrain from, as plain ASGI."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.browser_headers import POLICY, STRICT_POLICY, browser_headers

_POLICY_NAME = POLICY.lower().encode()


class SecurityHeaders:
    """Adds the headers to every answer, to errors too. A page that has a policy of its own keeps that one."""

    def __init__(self, app: ASGIApp, *, is_https: bool = False) -> None:
        self.app = app
        given = browser_headers(is_https=is_https)
        # Made here once, for there are thousands of answers a second.
        self._headers = [(name.lower().encode(), value.encode()) for name, value in given.items()]
        self._with_policy = [*self._headers, (_POLICY_NAME, STRICT_POLICY.encode())]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message.get("headers", ())
                has_policy = any(name == _POLICY_NAME for name, _ in headers)
                message["headers"] = [*headers, *(self._headers if has_policy else self._with_policy)]
            await send(message)

        await self.app(scope, receive, send_with_headers)
