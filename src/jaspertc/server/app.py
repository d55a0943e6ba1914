"""The web application: routes, middleware, and errors in OpenAI's form."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from jaspertc.engine.embedder import Embedder
from jaspertc.errors import JasperError, RequestError
from jaspertc.search.index import SearchIndex
from jaspertc.server.addresses import Addresses, wrong_method
from jaspertc.server.flow import ClientLeftError, Flow
from jaspertc.server.limits import BodyLimits, Record
from jaspertc.server.metrics import Metrics
from jaspertc.server.names import served_name
from jaspertc.server.problems import answer
from jaspertc.server.promise import Promise
from jaspertc.server.routes import make_router
from jaspertc.server.scheduler import Scheduler
from jaspertc.server.search import refining
from jaspertc.server.security import Gate, check_listening
from jaspertc.server.served import ServedModel
from jaspertc.server.settings import ServerSettings

EXPOSED = {"x-compression-ratio", "x-compressed-tokens", "server-timing", "retry-after"}


def create_app(
    embedder: Embedder, settings: ServerSettings | None = None, *, index: SearchIndex | None = None
) -> FastAPI:
    """A web application around one model.

    Args:
        embedder: the model; nobody else may compute with it while the application runs.
        settings: limits and promises; default: the settings' own defaults.
        index: what /v1/search searches, built with this model; it is closed at the end.

    Raises:
        ConfigError: the settings contradict each other, or would listen beyond this machine without a key.
        RatioError: ``settings.refine`` is out of range.
    """
    settings = settings or ServerSettings()
    check_listening(settings.host, keys=settings.api_keys, allow_without_key=settings.allow_without_key)
    name = served_name(embedder.checkpoint.name, settings.name)
    model = ServedModel(embedder, name=name, max_text_tokens=settings.max_text_tokens)
    metrics = Metrics()
    promise = None
    if settings.slo_ms is not None:
        promise = Promise(seconds=settings.slo_ms / 1000, floor=settings.slo_floor)
    scheduler = Scheduler(
        model,
        metrics=metrics,
        batch_tokens=settings.batch_tokens or max(1, embedder.runtime.token_budget // 2),
        max_wait_s=settings.max_wait_s,
        promise=promise,
        threads=settings.threads,
        when_idle=None if settings.refine is None or index is None else refining(index, settings.refine),
    )
    metrics.waiting.set_function(scheduler.waiting)
    metrics.backlog.set_function(scheduler.backlog_seconds)
    flow = Flow(model, scheduler, settings, metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(scheduler.start)
        yield
        await asyncio.to_thread(scheduler.close)
        flow.close()
        if index is not None:
            index.close()

    app = FastAPI(
        title="jaspertc",
        summary="Text embeddings with a compression dial, in OpenAI's interface.",
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        middleware=_middleware(settings, metrics),
        exception_handlers=_handlers(),
    )
    router, bodies = make_router(flow, index)
    app.include_router(router)
    app.openapi = _document(app, bodies)  # type: ignore[method-assign]
    app.state.scheduler, app.state.metrics = scheduler, metrics
    return app


def _middleware(settings: ServerSettings, metrics: Metrics) -> list[Middleware]:
    """Outermost first."""
    layers = [Middleware(Record, metrics=metrics), Middleware(Addresses)]
    if settings.cors_origins:
        layers.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(settings.cors_origins),
                allow_methods=["GET", "POST"],
                allow_headers=["authorization", "content-type"],
                expose_headers=sorted(EXPOSED),
            )
        )
    layers.append(Middleware(Gate, keys=settings.api_keys, allow_any_host=settings.allow_without_key))
    layers.append(
        Middleware(BodyLimits, most_bytes=settings.max_request_bytes, seconds=settings.body_timeout_s)
    )
    return layers


def _handlers() -> dict[Any, Callable[[Request, Any], Any]]:
    def refused(_: Request, error: RequestError) -> Response:
        return answer(error)

    def mistaken(_: Request, error: JasperError) -> Response:
        return answer(RequestError(str(error)))

    def unknown(request: Request, error: HTTPException) -> Response:
        headers = dict(error.headers or {})
        if error.status_code == 405:
            return wrong_method(request, headers.get("Allow", ""))
        text = "no such address; see /docs" if error.status_code == 404 else str(error.detail)
        return answer(RequestError(text, status=error.status_code, headers=headers))

    def left(_: Request, __: ClientLeftError) -> Response:
        return Response(status_code=499)  # nobody reads it

    return {
        RequestError: refused,
        JasperError: mistaken,
        HTTPException: unknown,
        ClientLeftError: left,
    }


def _document(app: FastAPI, bodies: Iterable[type[BaseModel]]) -> Callable[[], dict[str, Any]]:
    """The OpenAPI document, with the bodies that the routes read themselves."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            page = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
            schemas = page.setdefault("components", {}).setdefault("schemas", {})
            for body in bodies:
                schemas[body.__name__] = body.model_json_schema(ref_template="#/components/schemas/{model}")
            app.openapi_schema = page
        return app.openapi_schema

    return document
