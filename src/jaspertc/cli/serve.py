"""``jaspertc serve``: the model behind an OpenAI-compatible HTTP interface, and a page to try it."""

import math
from pathlib import Path
from typing import Annotated

import typer

from jaspertc.cli.options import Device, Dtype, ModelArgument, Runtime


def serve(
    model: ModelArgument = "mini",
    host: Annotated[
        str, typer.Option(help="Address to listen on; beyond this machine an API key is needed.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0: any free one.")] = 8000,
    name: Annotated[
        str | None, typer.Option(help="The model's name in requests; default: the folder's or hub's.")
    ] = None,
    index: Annotated[
        Path | None, typer.Option(help="An index from `jaspertc index`, for /v1/search and the page.")
    ] = None,
    refine: Annotated[
        float | None,
        typer.Option(help="In idle time, bring the index's vectors to this ratio, what is found most first."),
    ] = None,
    api_keys: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="API keys, one a line; more can be in JASPERTC_API_KEYS, separated by commas.",
        ),
    ] = None,
    allow_without_key: Annotated[
        bool, typer.Option("--allow-without-key", help="Serve other machines without an API key.")
    ] = False,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(help="A web origin whose pages may call the server; may be given several times."),
    ] = None,
    allow_token_ids: Annotated[
        bool,
        typer.Option("--allow-token-ids", help="Accept arrays of token ids of this model's own tokenizer."),
    ] = False,
    slo_ms: Annotated[
        float | None,
        typer.Option(help="Latency promise: under load, compress requests that fixed no ratio further."),
    ] = None,
    slo_floor: Annotated[
        float | None, typer.Option(help="The lowest ratio that --slo-ms may choose; default: 0.2.")
    ] = None,
    max_wait: Annotated[
        float, typer.Option(help="Seconds; a request that would wait longer is refused with 429.")
    ] = 10.0,
    batch_tokens: Annotated[
        int | None, typer.Option(help="Compressed tokens per batch; less answers short requests sooner.")
    ] = None,
    max_text_tokens: Annotated[
        int | None, typer.Option(help="Tokens per text; default: the model's limit, else 32768.")
    ] = None,
    max_request_tokens: Annotated[int, typer.Option(help="Tokens per request.")] = 300_000,
    max_request_mb: Annotated[float, typer.Option(help="Size of a request's body, in MiB.")] = 8.0,
    max_requests: Annotated[int, typer.Option(help="Requests inside the server at one time.")] = 1024,
    request_timeout: Annotated[float, typer.Option(help="Seconds until an accepted request fails.")] = 600.0,
    body_timeout: Annotated[float, typer.Option(help="Seconds in which a body must arrive.")] = 30.0,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads that compute; default: PyTorch's.")
    ] = None,
    workers: Annotated[
        int,
        typer.Option(
            min=1, help="Processes that share the port, each with a model, limits and metrics of its own."
        ),
    ] = 1,
    device: Device = "auto",
    dtype: Dtype = "auto",
    runtime: Runtime = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", help="Log problems only, not every request.")] = False,
) -> None:
    """Serve MODEL over HTTP: /v1/embeddings as OpenAI's, the compression dial, and a page at /."""
    from jaspertc.errors import InputError, MissingExtraError

    try:
        from jaspertc.server.run import serve as run
        from jaspertc.server.security import check_listening, read_keys
        from jaspertc.server.settings import ServerSettings
        from jaspertc.server.workers import Application, serve_in_workers
    except ImportError as error:
        raise MissingExtraError(error.name or "fastapi", "serve", "serving over HTTP") from error

    if refine is not None and index is None:
        raise InputError(f"--refine is {refine:g}, it goes with --index only; leave it out")
    if slo_floor is not None and slo_ms is None:
        raise InputError(f"--slo-floor is {slo_floor:g}, it goes with --slo-ms only; leave it out")
    if refine is not None and workers > 1:
        raise InputError(f"--refine goes with one worker, not {workers}; leave one of both out")
    max_bytes = max_request_mb * 1024 * 1024
    if not 1 <= max_bytes < math.inf:
        raise InputError(f"--max-request-mb is {max_request_mb:g}, it must be a size in MiB, such as 8")
    settings = ServerSettings(
        name=name,
        host=host,
        port=port,
        api_keys=read_keys(api_keys),
        allow_without_key=allow_without_key,
        cors_origins=tuple(cors_origin or ()),
        allow_token_ids=allow_token_ids,
        batch_tokens=batch_tokens,
        max_text_tokens=max_text_tokens,
        max_request_tokens=max_request_tokens,
        max_request_bytes=int(max_bytes),
        max_requests=max_requests,
        max_wait_s=max_wait,
        request_timeout_s=request_timeout,
        body_timeout_s=body_timeout,
        slo_ms=slo_ms,
        slo_floor=ServerSettings.slo_floor if slo_floor is None else slo_floor,
        threads=threads,
        refine=refine,
    )
    check_listening(
        host, keys=settings.api_keys, allow_without_key=allow_without_key
    )  # before the model loads

    application = Application(
        model=model,
        settings=settings,
        device=device,
        dtype=dtype,
        runtime=runtime,
        index=index,
        quiet=quiet,
    )
    if workers == 1:
        run(application(), settings)
    else:
        serve_in_workers(application, workers)
