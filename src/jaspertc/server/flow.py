"""A request's way from text to vectors: tokenised off the event loop, queued, awaited.

Its work is cancelled when its client leaves.

Shape legend: N texts, E width of the vectors.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from starlette.datastructures import Headers
from starlette.requests import Request

from jaspertc.engine.pieces import TextRows
from jaspertc.engine.precision import check_finite
from jaspertc.errors import InputError, RequestError, VectorError
from jaspertc.server.metrics import Metrics
from jaspertc.server.names import parse_name
from jaspertc.server.problems import failed, overloaded
from jaspertc.server.queue import Job
from jaspertc.server.scheduler import Scheduler
from jaspertc.server.schema import Dial
from jaspertc.server.served import Names, ServedModel, input_name
from jaspertc.server.settings import ServerSettings
from jaspertc.types import FloatArray

CHUNK_CHARACTERS = 65536  # tokenised in one go; other requests get their turn between two chunks
TOKENIZERS = 2
INLINE_BYTES = 65536  # bodies up to this size are parsed on the event loop

T = TypeVar("T")


class ClientLeftError(Exception):
    """The connection was closed before the answer; nobody reads one."""


@dataclass(kw_only=True)
class Times:
    """Seconds that the steps of a request took, for the Server-Timing header."""

    tokenize: float = 0.0
    queue: float = 0.0
    compute: float = 0.0

    def header(self) -> str:
        """As browsers read it, in milliseconds."""
        return ", ".join(f"{name};dur={1000 * value:.1f}" for name, value in vars(self).items())


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a request asks for, its model name and its fields together."""

    prefix: str
    has_prompt: bool
    ratio: float | None
    threshold: int | None
    max_compressed: int | None


@dataclass(kw_only=True)
class Embedded:
    """Vectors at full width, shape (N, E), and what was done for them."""

    vectors: FloatArray
    tokens: int
    compressed_tokens: int
    ratio: float
    adapted: bool
    times: Times = field(default_factory=Times)


class Flow:
    """What the routes share."""

    def __init__(
        self, model: ServedModel, scheduler: Scheduler, settings: ServerSettings, metrics: Metrics
    ) -> None:
        self.model = model
        self.scheduler = scheduler
        self.settings = settings
        self.metrics = metrics
        self._tokenizers = ThreadPoolExecutor(TOKENIZERS, thread_name_prefix="jaspertc-tokenize")
        # One by one: a picture may unpack to 75 MB.
        self._pictures = ThreadPoolExecutor(1, thread_name_prefix="jaspertc-pictures")
        self._inside = 0

    def close(self) -> None:
        """End the threads for tokens and pictures."""
        for threads in (self._tokenizers, self._pictures):
            threads.shutdown(wait=False, cancel_futures=True)

    def wanted(self, body: Dial, name: str | None) -> Wanted:
        """Put the model's name and the fields together.

        Raises:
            RequestError: another model, or name and fields contradict each other, or the model cannot do it.
        """
        prompts = self.model.embedder.prompts
        alias = parse_name(self.model.name if name is None else name, served=self.model.name, prompts=prompts)
        prompt_name, ratio = body.prompt_name, body.compression_ratio
        if alias.prompt_name is not None:
            if body.prompt is not None or prompt_name not in (None, alias.prompt_name):
                raise _contradiction("prompt" if body.prompt is not None else "prompt_name")
            prompt_name = alias.prompt_name
        if alias.ratio is not None:
            if ratio not in (None, alias.ratio):
                raise _contradiction("compression_ratio")
            ratio = alias.ratio
        try:
            prefix = self.model.embedder.prompt_text(body.prompt, prompt_name)
        except InputError as error:
            raise RequestError(str(error), param="prompt_name") from error
        self.model.check_dial(ratio=ratio, threshold=body.threshold, max_compressed=body.max_compressed)
        return Wanted(
            prefix=prefix,
            has_prompt=body.prompt is not None or prompt_name is not None,
            ratio=ratio,
            threshold=body.threshold,
            max_compressed=body.max_compressed,
        )

    async def off_loop(self, work: Callable[[], T]) -> T:
        """Run ``work`` on a tokenising thread."""
        return await asyncio.get_running_loop().run_in_executor(self._tokenizers, work)

    async def parsed(self, request: Request, parse: Callable[[bytes], T]) -> T:
        """The request's body, parsed; a large one off the event loop.

        Raises:
            RequestError: 415, the content is not said to be plain JSON in UTF-8; or what ``parse`` raises.
        """
        _check_content(request.headers)
        body = await request.body()
        return parse(body) if len(body) <= INLINE_BYTES else await self.off_loop(lambda: parse(body))

    async def tokenize(self, texts: list[str], prefix: str, names: Names = input_name) -> TextRows:
        """Token ids of each text, within the limits.

        Args:
            names: what the client calls each text; an error says that.

        Raises:
            RequestError: a text, or all together, are too long.
        """
        self.model.check_characters([*texts, prefix], names)
        parts: list[TextRows] = []
        begin = 0
        while begin < len(texts):
            end, size = begin, 0
            while end < len(texts) and (end == begin or size + len(texts[end]) <= CHUNK_CHARACTERS):
                size += len(texts[end]) + len(prefix)
                end += 1
            chunk = texts[begin:end]
            parts.append(await self.off_loop(lambda chunk=chunk: self.model.tokenize(chunk, prefix)))  # type: ignore[misc]
            begin = end
        return self.checked(TextRows.joined(parts), names)

    def checked(self, texts: TextRows, names: Names = input_name) -> TextRows:
        """Texts within the limits of this server."""
        self.model.check_lengths(texts.lengths, names, most_together=self.settings.max_request_tokens)
        return texts

    async def embed_texts(
        self, request: Request, texts: list[str], wanted: Wanted, names: Names = input_name
    ) -> Embedded:
        """Vectors of texts, as ``Embedder.encode`` gives them; names as in ``tokenize``.

        Raises:
            RequestError: too long (400), too busy (429), stopping or out of time (503).
            ClientLeftError: nobody waits for the answer any more.
        """
        return await self._for_client(
            request, self._embed(lambda: self.tokenize(texts, wanted.prefix, names), wanted)
        )

    async def embed_ids(self, request: Request, ids: list[list[int]], wanted: Wanted) -> Embedded:
        """Vectors of token ids, as ``Embedder.encode_ids`` gives them. Raises as ``embed_texts``."""

        async def checked() -> TextRows:
            return self.checked(self.model.check_ids(ids))

        return await self._for_client(request, self._embed(checked, wanted))

    async def embed_pictures(self, request: Request, files: list[bytes], tokens: int | None) -> Embedded:
        """Vectors of pictures, as ``Embedder.encode_image`` gives them before normalisation.

        Raises:
            RequestError: a picture cannot be read or is too large (400), too busy (429), out of time (503).
            ClientLeftError: nobody waits for the answer any more.
        """
        return await self._for_client(request, self._see(files, tokens))

    async def _see(self, files: list[bytes], tokens: int | None) -> Embedded:
        with self._entered():
            started = time.perf_counter()
            work = partial(self.model.see, files, tokens, most_pixels=self.settings.max_image_pixels)
            vectors, computed = await asyncio.get_running_loop().run_in_executor(self._pictures, work)
        return Embedded(
            vectors=vectors,
            tokens=computed,
            compressed_tokens=computed,
            ratio=1.0,
            adapted=False,
            times=Times(compute=time.perf_counter() - started),
        )

    @contextmanager
    def _entered(self) -> Iterator[None]:
        """One of the requests that are inside at one time."""
        if self._inside >= self.settings.max_requests:
            self.metrics.refused.inc()
            wait = max(self.scheduler.backlog_seconds(), self.settings.max_wait_s)
            raise overloaded(wait, self.settings.max_wait_s)
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    async def _embed(self, make_rows: Callable[[], Awaitable[TextRows]], wanted: Wanted) -> Embedded:
        with self._entered():
            started = time.perf_counter()
            texts = await make_rows()
            times = Times(tokenize=time.perf_counter() - started)
            self.metrics.tokenize_seconds.observe(times.tokenize)
            job = await self._computed(texts, wanted)
        times.queue, times.compute = (job.started or job.arrived) - job.arrived, job.compute_s
        return Embedded(
            vectors=finite(texts.combine(job.vectors, job.targets)),
            tokens=int(texts.lengths.sum()),
            compressed_tokens=int(job.targets.sum()),
            ratio=job.ratio,
            adapted=job.adapted,
            times=times,
        )

    async def _computed(self, texts: TextRows, wanted: Wanted) -> Job:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Job] = loop.create_future()

        def settle(job: Job) -> None:
            if not done.done():
                done.set_result(job)

        def on_end(job: Job) -> None:  # on the computing thread
            loop.call_soon_threadsafe(settle, job)

        job = self.scheduler.submit(
            texts,
            on_end=on_end,
            ratio=wanted.ratio,
            threshold=wanted.threshold,
            max_compressed=wanted.max_compressed,
        )
        try:
            await done
        except asyncio.CancelledError:
            self.scheduler.cancel(job)
            raise
        if job.error is not None:
            raise failed() from job.error  # the scheduler has logged it
        return job

    async def _for_client(self, request: Request, work: Awaitable[T]) -> T:
        """``work``, cancelled when the client leaves or the time is up."""
        task = asyncio.ensure_future(work)
        leaving = asyncio.ensure_future(_left(request))
        try:
            await asyncio.wait(
                {task, leaving},
                timeout=self.settings.request_timeout_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if task.done():
                return task.result()
            if leaving.done():
                raise ClientLeftError
            raise RequestError(
                f"the request took longer than this server's limit of {self.settings.request_timeout_s:g} s; "
                "send fewer texts at once",
                status=503,
                code="timeout",
                retry_after=max(1, math.ceil(self.scheduler.backlog_seconds())),
            )
        finally:
            for part in (task, leaving):
                part.cancel()


def finite(vectors: FloatArray) -> FloatArray:
    """The vectors, shape (N, E); a RequestError names the input whose vector is not finite."""
    try:
        return check_finite(vectors, "input")
    except VectorError as error:
        raise RequestError(str(error), status=500, code="vector_not_finite") from error


def _check_content(headers: Headers) -> None:
    """Raise RequestError unless the headers of a request say that its body is plain JSON in UTF-8."""
    kind, *parameters = (part.strip().lower() for part in headers.get("content-type", "").split(";"))
    if kind != "application/json":
        raise RequestError(
            f"the content type is {kind[:50]!r}; send JSON with the header 'Content-Type: application/json'",
            status=415,
        )
    for parameter in parameters:
        name, _, charset = parameter.partition("=")
        if name == "charset" and charset.strip('"') not in ("utf-8", "utf8"):
            raise RequestError(f"the charset is {charset[:50]!r}; send JSON in UTF-8", status=415)
    encoding = ", ".join(headers.getlist("content-encoding")).strip().lower()
    if encoding not in ("", "identity"):
        raise RequestError(
            f"the content encoding is {encoding[:50]!r}; send the body as it is, without Content-Encoding",
            status=415,
            headers={"accept-encoding": "identity"},
        )


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _contradiction(field: str) -> RequestError:
    return RequestError(
        f"the model's name and the field {field} contradict each other; give one of them", param=field
    )
