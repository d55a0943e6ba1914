"""POST /v1/search: the documents of the server's index that answer a query."""

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from starlette.requests import Request

from jaspertc.engine.precision import normalized
from jaspertc.errors import InputError, RequestError
from jaspertc.search.embedding import QUERY_RATIO, checked_ratio
from jaspertc.search.finding import Hit, check_query
from jaspertc.search.index import SearchIndex
from jaspertc.search.refining import refined_batches
from jaspertc.server.flow import Flow, Wanted
from jaspertc.server.schema import Dial, SearchRequest
from jaspertc.types import FloatArray

REFINED_AT_ONCE = 8  # passages: a request that comes meanwhile waits for them


def refining(index: SearchIndex, ratio: float) -> Callable[[], bool]:
    """A step of ``refine`` at each call; whether there was something below the ratio.

    Raises:
        RatioError: ratio is out of range, or below 1 for a model without a compressor.
    """
    ratio = checked_ratio(index.embedding.embedder, ratio)
    batches = refined_batches(index, ratio, REFINED_AT_ONCE, lock_seconds=0)

    def step() -> bool:
        nonlocal batches
        if next(batches, None) is not None:
            return True
        batches = refined_batches(index, ratio, REFINED_AT_ONCE, lock_seconds=0)  # it has ended
        return False

    return step


async def search(
    request: Request, flow: Flow, index: SearchIndex | None, body: SearchRequest
) -> dict[str, Any]:
    """The answer to a request, as JSON.

    Raises:
        RequestError: the server has no index (404), or what is wrong with the request.
    """
    if index is None:
        raise RequestError(
            "this server has no index; start it with jaspertc serve MODEL --index FILE", status=404
        )
    try:
        check_query(body.query)
    except InputError as error:  # shows the query, as messages of the server never do
        raise RequestError("query is blank; give a text to look for", param="query") from error
    asked = flow.wanted(Dial(), body.model)
    prompt = flow.model.embedder.prompts.get("query", "")
    if asked.has_prompt and asked.prefix != prompt:
        raise RequestError(
            f"model is {body.model!r}, but a query has the prompt query; give {flow.model.name!r}",
            param="model",
        )
    wanted = Wanted(
        prefix=prompt,
        has_prompt="query" in flow.model.embedder.prompts,
        ratio=QUERY_RATIO if asked.ratio is None else asked.ratio,
        threshold=index.info.threshold,
        max_compressed=None,
    )
    vector = None if body.mode == "text" else await _vector(request, flow, body.query, wanted)
    hits = await asyncio.to_thread(
        index.search, body.query, k=body.k, where=body.where, mode=body.mode, vector=vector
    )
    return {"object": "list", "data": [_shown(hit) for hit in hits], "model": flow.model.name}


async def _vector(request: Request, flow: Flow, query: str, wanted: Wanted) -> FloatArray:
    """A query's unit vector, computed in the queue like all others."""
    embedded = await flow.embed_texts(request, [query], wanted, lambda index: "query")
    vector: FloatArray = normalized(embedded.vectors[0])
    return vector


def _shown(hit: Hit) -> dict[str, Any]:
    passage = asdict(hit.passage)
    return {"id": hit.id, "score": hit.score, "text": hit.text, "metadata": hit.metadata, **passage}
