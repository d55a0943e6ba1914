"""The addresses of the server."""

import base64
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import orjson
from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from jaspertc.engine.precision import similarity
from jaspertc.errors import RequestError
from jaspertc.samples import load_samples
from jaspertc.search.index import SearchIndex
from jaspertc.server.flow import Embedded, Flow, Wanted
from jaspertc.server.page import FILES, page_file
from jaspertc.server.pictures import read_images
from jaspertc.server.schema import (
    EmbeddingRequest,
    EmbeddingResponse,
    ModelList,
    Refusal,
    SearchRequest,
    SearchResponse,
    SimilarityRequest,
    SimilarityResponse,
    TokenizeRequest,
    TokenizeResponse,
    parse,
    read_ids,
    read_texts,
)
from jaspertc.server.schema import Model as ModelSchema
from jaspertc.server.search import search
from jaspertc.server.served import input_name
from jaspertc.types import FloatArray

Handler = Callable[[Request], Awaitable[Response]]
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal, "description": text}
    for status, text in {
        400: "Not acceptable; the message says what and why.",
        401: "No or wrong API key.",
        403: "Called under a host name that needs an API key.",
        404: "No such model.",
        408: "The body did not arrive in time.",
        413: "The body is too large.",
        415: "The content is not JSON in UTF-8, or has an encoding such as gzip.",
        429: "Busy; try again after the time in retry-after.",
        500: "A fault of the server.",
        503: "Stopping, or out of time.",
    }.items()
}


def json_response(content: Any, headers: dict[str, str] | None = None) -> Response:
    """JSON of plain values and NumPy arrays."""
    return Response(
        orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY),
        headers=headers,
        media_type="application/json",
    )


def make_router(flow: Flow, index: SearchIndex | None) -> tuple[APIRouter, list[type[BaseModel]]]:
    """All routes of one server, with ``index`` for /v1/search; and the bodies that they read themselves."""
    router, bodies = APIRouter(), list[type[BaseModel]]()
    model, settings = flow.model, flow.settings

    def post(path: str, body: type[BaseModel], answer: type[BaseModel]) -> Callable[[Handler], Handler]:
        bodies.append(body)
        content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{body.__name__}"}}}
        return router.post(
            path,
            response_model=answer,
            responses=REFUSALS,
            openapi_extra={"requestBody": {"required": True, "content": content}},
        )

    @post("/v1/embeddings", EmbeddingRequest, EmbeddingResponse)
    async def embeddings(request: Request) -> Response:
        """Vectors of texts. OpenAI's interface, and the dial."""
        body = await flow.parsed(request, lambda raw: parse(EmbeddingRequest, raw))
        wanted = flow.wanted(body, body.model)
        _check_dimensions(body.dimensions)
        result = await embedded(request, body.input, wanted, body.image_tokens)
        vectors = model.finish(result.vectors, body.dimensions)

        def answer() -> Response:
            return json_response(
                {
                    "object": "list",
                    "data": _data(vectors, as_base64=body.encoding_format == "base64"),
                    "model": body.model,
                    **_counts(result),
                },
                _headers(result),
            )

        return answer() if vectors.size < 32768 else await flow.off_loop(answer)

    async def embedded(
        request: Request, value: Any, wanted: Wanted, image_tokens: int | None = None
    ) -> Embedded:
        images = read_images(value, most=settings.max_images)
        if images is not None:
            return await flow.embed_pictures(request, images, image_tokens)
        if image_tokens is not None:
            raise RequestError(
                f"image_tokens is {image_tokens}, it is for pictures, and input holds none; leave it out",
                param="image_tokens",
            )
        ids = read_ids(value, most=settings.max_inputs)
        if ids is None:
            return await flow.embed_texts(request, read_texts(value, most=settings.max_inputs), wanted)
        if not settings.allow_token_ids:
            raise RequestError(
                "input holds token ids. Ids of another tokenizer would give valid-looking nonsense, so this "
                "server takes text: with langchain-openai set check_embedding_ctx_length=False. For ids of "
                "this model's own tokenizer start the server with --allow-token-ids",
                param="input",
                code="token_ids_not_allowed",
            )
        if wanted.has_prompt:
            raise RequestError(
                "a prompt cannot be put before token ids; leave it out, or send text", param="input"
            )
        return await flow.embed_ids(request, ids, wanted)

    def _check_dimensions(dims: int | None) -> None:
        if dims is not None and dims not in model.widths:
            widths = ", ".join(map(str, model.widths))
            raise RequestError(
                f"dimensions is {dims}, this model was trained for {widths}; other widths lose quality "
                "unpredictably (slice the vectors yourself if you accept that)",
                param="dimensions",
            )

    @router.get("/v1/models", response_model=ModelList)
    async def models() -> Response:
        """The model, under its own name and with each of its prompts."""
        return json_response({"object": "list", "data": [_described(name) for name in names]})

    @router.get("/v1/models/{name:path}", response_model=ModelSchema, responses={404: REFUSALS[404]})
    async def one_model(name: str) -> Response:
        """One name of the model, a ratio included."""
        flow.wanted(EmbeddingRequest(input="", model=name), name)
        return json_response(_described(name))

    names = [model.name, *(f"{model.name}:{prompt}" for prompt in model.embedder.prompts)]

    @post("/tokenize", TokenizeRequest, TokenizeResponse)
    async def tokenize(request: Request) -> Response:
        """Tokens of texts, and the windows that a ratio makes of them."""
        body = await flow.parsed(request, lambda raw: parse(TokenizeRequest, raw))
        wanted = flow.wanted(body, body.model)
        texts = await flow.tokenize(read_texts(body.input, most=settings.max_inputs), wanted.prefix)
        ratio = model.embedder.default_ratio if wanted.ratio is None else wanted.ratio
        targets = model.targets(
            texts, ratio=ratio, threshold=wanted.threshold, max_compressed=wanted.max_compressed
        )

        def answer() -> Response:
            data = [model.described(rows, shares) for rows, shares in texts.each(targets)]
            return json_response({"model": model.name, "ratio": ratio, "data": data})

        return await flow.off_loop(answer)

    @post("/similarity", SimilarityRequest, SimilarityResponse)
    async def similarities(request: Request) -> Response:
        """Cosine of every pair of texts."""
        body = await flow.parsed(request, lambda raw: parse(SimilarityRequest, raw))
        wanted = flow.wanted(body, body.model)
        rows = read_texts(body.input, most=settings.max_inputs)
        columns = rows
        if body.other is not None:
            columns = read_texts(body.other, param="other", most=settings.max_inputs)
        texts = rows if columns is rows else rows + columns
        if len(texts) > settings.max_inputs:
            raise RequestError(
                f"input and other have {len(texts):,} texts, the limit is {settings.max_inputs:,}",
                param="other",
            )
        count = len(rows)
        result = await flow.embed_texts(
            request, texts, wanted, lambda n: input_name(n) if n < count else f"other {n - count}"
        )
        left = result.vectors[:count]
        right = left if columns is rows else result.vectors[count:]

        def answer() -> Response:
            content = {"model": model.name, "similarities": similarity(left, right), **_counts(result)}
            return json_response(content, _headers(result))

        return await flow.off_loop(answer)

    @post("/v1/search", SearchRequest, SearchResponse)
    async def searched(request: Request) -> Response:
        """The documents of the server's index that answer a query best."""
        body = await flow.parsed(request, lambda raw: parse(SearchRequest, raw))
        return json_response(await search(request, flow, index, body))

    @router.get("/health", responses={503: REFUSALS[503]})
    async def health() -> Response:
        """Whether the server works."""
        if not flow.scheduler.healthy:
            raise RequestError("the computing thread has stopped; restart the server", status=503)
        return json_response({"status": "ok"})

    @router.get("/ready", responses={503: REFUSALS[503]})
    async def ready() -> Response:
        """Whether a request would be accepted now."""
        wait = flow.scheduler.backlog_seconds()
        if not flow.scheduler.healthy or wait > settings.max_wait_s:
            raise RequestError("stopping or busy", status=503, retry_after=1)
        return json_response({"status": "ready"})

    @router.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Counters for Prometheus."""
        return Response(flow.metrics.text(), media_type="text/plain; version=0.0.4")

    @router.get("/info")
    async def info() -> Response:
        """What the model and this server can do."""
        embedder = model.embedder
        return json_response(
            {
                "model": model.name,
                "dims": model.widths,
                "prompts": embedder.prompts,
                "default_prompt": embedder.checkpoint.info.default_prompt_name,
                "can_compress": model.can_compress,
                "ratio": embedder.default_ratio,
                "threshold": embedder.default_threshold,
                "max_positions": embedder.config.backbone.max_positions,
                "max_inputs": settings.max_inputs,
                "max_text_tokens": model.max_text_tokens,
                "max_request_tokens": settings.max_request_tokens,
                "max_request_bytes": settings.max_request_bytes,
                "token_ids": settings.allow_token_ids,
                "picture_tokens": model.picture_tokens,
                "index": None if index is None else {"name": index.path.name, "documents": len(index)},
                "slo_ms": settings.slo_ms,
                "slo_floor": settings.slo_floor if settings.slo_ms else None,
            }
        )

    @router.get("/samples")
    async def samples() -> Response:
        """The sample passages and questions that ship with the package, for the page."""
        return json_response({"passages": load_samples("passages"), "questions": load_samples("questions")})

    @router.get("/", include_in_schema=False)
    async def page() -> Response:
        return page_file("index.html", "text/html")

    @router.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return page_file("docs.html", "text/html")

    @router.get("/static/{name}", include_in_schema=False)
    async def static(name: str) -> Response:
        if name not in FILES:  # names are looked up, never joined to a path
            raise RequestError("no such file", status=404)
        return page_file(name, FILES[name])

    return router, bodies


def _described(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "jaspertc"}


def _data(vectors: FloatArray, *, as_base64: bool) -> list[dict[str, Any]]:
    little = np.ascontiguousarray(vectors, dtype="<f4")
    return [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(row.tobytes()).decode() if as_base64 else row,
        }
        for index, row in enumerate(little)
    ]


def _counts(result: Embedded) -> dict[str, Any]:
    return {
        "usage": {"prompt_tokens": result.tokens, "total_tokens": result.tokens},
        "compression": {
            "ratio": result.ratio,
            "adapted": result.adapted,
            "compressed_tokens": result.compressed_tokens,
        },
    }


def _headers(result: Embedded) -> dict[str, str]:
    return {
        "x-compression-ratio": f"{result.ratio:g}",
        "x-compressed-tokens": str(result.compressed_tokens),
        "server-timing": result.times.header(),
    }
