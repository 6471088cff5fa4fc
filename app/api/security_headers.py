"""What every answer tells browsers to refrain from, as plain ASGI."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = "Content-Security-Policy"
# For what is no page: even if a browser takes it for one, it loads nothing, runs nothing and is in no frame.
STRICT_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}
ONLY_BY_HTTPS = {"Strict-Transport-Security": "max-age=31536000"}
_POLICY_NAME = POLICY.lower().encode()


class SecurityHeaders:
    """Adds the headers to every answer, to errors too. A page that has a policy of its own keeps that one."""

    def __init__(self, app: ASGIApp, *, is_https: bool = False) -> None:
        self.app = app
        given = ALWAYS | (ONLY_BY_HTTPS if is_https else {})
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
