"""Refusals in the form that OpenAI's clients understand."""

from typing import Any

from starlette.responses import JSONResponse

from jaspertc.errors import JasperError


class RequestError(JasperError):
    """A request that is refused.

    Args:
        message: names the value, what is allowed and the fix.
        status: the HTTP status; OpenAI's clients try 408, 409, 429 and >= 500 again.
        param: the field of the request that is meant.
        code: a short name of the problem for programs.
        kind: the family of the problem; by default from the status.
        retry_after: seconds after which another try makes sense.
        headers: more headers of the answer.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        kind: str | None = None,
        retry_after: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code
        default = "server_error" if status >= 500 else "invalid_request_error"
        self.kind = kind or ("rate_limit_error" if status == 429 else default)
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["retry-after"] = str(retry_after)

    def response(self) -> JSONResponse:
        """The answer to send."""
        return JSONResponse(self.body(), status_code=self.status, headers=self.headers)

    def body(self) -> dict[str, Any]:
        """``{"error": {message, type, param, code}}``."""
        return {"error": {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}}


def failed() -> RequestError:
    """What a client is told of a fault of ours: nothing but that the log knows more."""
    return RequestError("the server failed on this request; its log says why", status=500)


def overloaded(wait: float, limit: float) -> RequestError:
    """The refusal of a request that would wait ``wait`` seconds where ``limit`` are allowed."""
    return RequestError(
        f"the server is busy: this request would wait about {wait:.1f} s, the limit is {limit:g} s; "
        "try again later, or send fewer or shorter texts or a lower compression_ratio",
        status=429,
        code="rate_limit_exceeded",
        retry_after=max(1, min(60, round(wait - limit) + 1)),
    )
