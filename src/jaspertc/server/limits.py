"""Bounds on the body of a request, in size and time, and one line of log for each request."""

import asyncio
import logging
import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jaspertc.errors import RequestError
from jaspertc.server.metrics import Metrics
from jaspertc.server.problems import answer, failed

logger = logging.getLogger("jaspertc.server.requests")

# A body above the limit is read on up to this many times the limit and thrown away: a client that is cut off
# while it sends sees a broken connection, not the answer.
DISCARDED = 8


class BodyLimits:
    """ASGI middleware that hands on a request when its whole body is there, or refuses it with 413 or 408."""

    def __init__(self, app: ASGIApp, *, most_bytes: int, seconds: float) -> None:
        self.app = app
        self._most = most_bytes
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._seconds):
                body = await self._read(Headers(scope=scope), receive)
        except TimeoutError:
            late = RequestError(
                f"the body did not arrive within {self._seconds:g} s",
                status=408,
                headers={"connection": "close"},
            )
            await answer(late)(scope, receive, send)
            return
        except RequestError as error:
            await answer(error)(scope, receive, send)
            return
        if body is None:  # the client left
            return
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return messages.pop() if messages else await receive()

        await self.app(scope, replay, send)

    async def _read(self, headers: Headers, receive: Receive) -> bytes | None:
        announced = headers.get("content-length", "0")
        size, parts = 0, []
        too_large = announced.isdigit() and int(announced) > self._most
        if too_large and int(announced) > DISCARDED * self._most:
            raise self._refusal(close=True)
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            part = message.get("body", b"")
            size += len(part)
            too_large = too_large or size > self._most
            if not too_large:
                parts.append(part)
            elif size > DISCARDED * self._most:
                raise self._refusal(close=True)
            else:
                parts.clear()
            if not message.get("more_body", False):
                if too_large:
                    raise self._refusal(close=False)
                return b"".join(parts)

    def _refusal(self, *, close: bool) -> RequestError:
        return RequestError(
            f"the body is larger than this server's limit of {self._most:,} bytes; "
            "send fewer or shorter texts",
            status=413,
            code="request_too_large",
            headers={"connection": "close"} if close else None,
        )


class Record:
    """ASGI middleware that counts and logs requests: the route, status and time, never what was sent."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self.app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 499  # until an answer begins: the client left

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noting)
        except Exception:
            logger.exception("a request failed")
            if status != 499:
                raise  # the answer has begun: the connection must break
            await answer(failed())(scope, receive, noting)
        finally:
            seconds = time.perf_counter() - started
            # The route's own path: what a client wrote there could be anything.
            path = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(path, str(status)).inc()
            self._metrics.request_seconds.labels(path).observe(seconds)
            method = scope["method"] if scope["method"] in ("GET", "POST", "HEAD", "OPTIONS") else "other"
            logger.info("%s %s %d %.1f ms", method, path, status, 1000 * seconds)
