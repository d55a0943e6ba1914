"""One address, one answer: with or without a slash at its end, and HEAD wherever GET is."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jaspertc.errors import RequestError
from jaspertc.server.problems import answer


class Addresses:
    """ASGI middleware that drops slashes at the end of an address, and answers HEAD as GET without the body.

    A redirect would do worse: it names the scheme and host that this process sees, not the proxy's.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        only_head = scope["method"] == "HEAD"
        asked = {**scope, "path": scope["path"].rstrip("/") or "/"}
        asked["method"] = "GET" if only_head else scope["method"]

        async def without_body(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        try:
            await self.app(asked, receive, without_body if only_head else send)
        finally:
            scope["route"] = asked.get("route")  # for the log


def wrong_method(request: Request, allowed: str) -> Response:
    """The answer to a method that an address does not take; OPTIONS is told which ones it does.

    Args:
        allowed: the methods of the address, with commas between.
    """
    methods = {*allowed.replace(" ", "").split(","), "OPTIONS"}
    if "GET" in methods:
        methods.add("HEAD")
    allow = {"allow": ", ".join(sorted(methods))}
    if request.method == "OPTIONS":
        return Response(status_code=204, headers=allow)
    text = f"this address takes {allow['allow']}; see /docs"
    return answer(RequestError(text, status=405, code="method_not_allowed", headers=allow))
