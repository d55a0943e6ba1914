"""Refusals in the form that OpenAI's clients understand."""

from starlette.responses import JSONResponse

from jaspertc.errors import RequestError


def answer(refusal: RequestError) -> JSONResponse:
    """What is sent to a client."""
    return JSONResponse(refusal.body(), status_code=refusal.status, headers=refusal.headers)


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
