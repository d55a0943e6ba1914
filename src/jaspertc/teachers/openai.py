"""A teacher behind an OpenAI-compatible ``/embeddings``: several requests at once, sent again where it helps.

Shape legend: N texts, E width of the vectors.
"""

import base64
import http.client
import json
import os
import random
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, Literal

import numpy as np

from jaspertc.config import Between, Count
from jaspertc.errors import ConfigError, TeacherError
from jaspertc.teachers.base import PROBE, Teacher, TeacherConfig
from jaspertc.types import FloatArray

RETRIED = {408, 409, 429}
FIRST_WAIT, LONGEST_WAIT, LONGEST_ASKED_WAIT = 0.5, 30.0, 300.0


@dataclass(frozen=True, kw_only=True)
class OpenAIConfig(TeacherConfig):
    """An endpoint with OpenAI's ``/embeddings``, in whatever serves the model.

    Args:
        url: up to ``/v1``, such as ``http://localhost:8000/v1``.
        api_key_env: name of the environment variable that holds the key.
        batch_size: texts a request.
        parallel: requests at once.
        timeout: seconds a request may take.
        retries: how often a request is sent again after 408, 409, 429, 5xx or no answer.
        encoding_format: how vectors are asked for; answers of either kind are read.
        dimensions: sent along, for models trained for several widths.
        extra: further fields of the request, such as ``{truncate_prompt_tokens = 1030}``.
    """

    url: str
    model: str
    api_key_env: str | None = None
    batch_size: Annotated[int, Between(1, 2048)] = 32
    parallel: Annotated[int, Between(1, 256)] = 4
    timeout: Annotated[float, Between(0.001)] = 120.0
    retries: Annotated[int, Between(0)] = 6
    encoding_format: Literal["base64", "float"] = "base64"
    dimensions: Count | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.url.startswith(("http://", "https://")):
            raise ConfigError(f"url is {self.url!r}, it must start with http:// or https://")
        taken = {"input", "model", "encoding_format", "dimensions", "user"} & set(self.extra)
        if taken:
            raise ConfigError(f"extra has {sorted(taken)[0]!r}, which the request sets itself; remove it")


class OpenAITeacher(Teacher):
    """One model behind a URL; a first request finds out whether it answers, and its width.

    Raises:
        ConfigError: the environment variable with the key is not set.
        TeacherError: it does not answer, or not as it should.
    """

    Config = OpenAIConfig

    def __init__(self, config: OpenAIConfig) -> None:
        self.config = config
        base = config.url.rstrip("/")
        self.url = base if base.endswith("/embeddings") else f"{base}/embeddings"
        self.headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if config.api_key_env is not None:
            key = os.environ.get(config.api_key_env, "")
            if not key:
                raise ConfigError(
                    f"teacher {config.name!r}: api_key_env is {config.api_key_env!r}, but this environment "
                    "variable is not set; export it, or remove api_key_env for a server without keys"
                )
            self.headers["Authorization"] = f"Bearer {key}"

        self.dims = self.encode([PROBE], "").shape[1]
        self.identity = {
            "kind": config.kind,
            "model": config.model,
            "content hash": None,
            "max length": None,
            "pooling": None,
            "dimensions": config.dimensions,
            "extra": dict(config.extra),
        }

    def encode(self, texts: Sequence[str], prompt: str) -> FloatArray:
        """See ``Teacher``.

        Raises:
            TeacherError: no sound answer after all retries; the message has the server's own.
        """
        size = self.config.batch_size
        prompted = [prompt + text for text in texts]
        batches = [prompted[begin : begin + size] for begin in range(0, len(texts), size)]
        if len(batches) == 1:
            return self._request(batches[0])
        with ThreadPoolExecutor(self.config.parallel) as pool:
            futures = [pool.submit(self._request, batch) for batch in batches]
            try:
                parts = [future.result() for future in futures]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        widths = sorted({rows.shape[1] for rows in parts})
        if len(widths) > 1:
            raise self._error(f"gave vectors of different widths: {', '.join(map(str, widths))}")
        return np.concatenate(parts)

    def _request(self, texts: list[str]) -> FloatArray:
        body: dict[str, Any] = {
            **self.config.extra,
            "model": self.config.model,
            "input": texts,
            "encoding_format": self.config.encoding_format,
        }
        if self.config.dimensions is not None:
            body["dimensions"] = self.config.dimensions
        return self._vectors(self._answer(json.dumps(body).encode()), len(texts))

    def _answer(self, body: bytes) -> Any:
        request = urllib.request.Request(self.url, data=body, headers=self.headers, method="POST")
        wait = FIRST_WAIT
        for attempts_left in range(self.config.retries, -1, -1):
            asked: float | None = None
            try:
                with urllib.request.urlopen(request, timeout=self.config.timeout) as response:
                    content = response.read()
                break
            except urllib.error.HTTPError as error:
                problem = f"answered {error.code} {error.reason}: {_server_message(error)}"
                if error.code not in RETRIED and error.code < 500:
                    raise self._error(f"{problem}{_advice(error.code)}") from error
                asked = _retry_after(error.headers.get("retry-after"))
            except (OSError, http.client.HTTPException) as error:  # refused, reset, timed out, cut short
                problem = (
                    f"did not answer ({getattr(error, 'reason', None) or error or type(error).__name__})"
                )
            if attempts_left == 0:
                raise self._error(
                    f"{problem}, after {self.config.retries + 1} attempts; see url and the server"
                )
            time.sleep(wait * random.uniform(0.75, 1) if asked is None else asked)
            wait = min(2 * wait, LONGEST_WAIT)
        try:
            return json.loads(content)
        except ValueError as error:
            raise self._error(f"answered with something that is not JSON ({content[:80]!r})") from error

    def _vectors(self, answer: Any, count: int) -> FloatArray:
        try:
            items = answer["data"]
            order = [int(item["index"]) for item in items]
            rows = [_decoded(item["embedding"]) for item in items]
        except (KeyError, TypeError, ValueError) as error:
            raise self._error(
                f"gave no list of embeddings ({type(error).__name__}: {error}); is it an embeddings model?"
            ) from error
        if sorted(order) != list(range(count)):
            raise self._error(f"gave {len(order)} embeddings for {count} texts, or wrong indices")
        if len({row.shape for row in rows}) != 1 or rows[0].ndim != 1 or not len(rows[0]):
            raise self._error("gave vectors of different widths, or none at all")
        vectors = np.empty((count, len(rows[0])), dtype=np.float32)
        vectors[order] = rows
        return vectors

    def _error(self, message: str) -> TeacherError:
        return TeacherError(f"teacher {self.config.name!r}: {self.url} {message}")


def _decoded(value: Any) -> FloatArray:
    """Base64 of little-endian float32, or a list of numbers; shape (E,)."""
    if isinstance(value, str):
        return np.frombuffer(base64.b64decode(value, validate=True), dtype="<f4").astype(np.float32)
    return np.asarray(value, dtype=np.float32)


def _server_message(error: urllib.error.HTTPError) -> str:
    try:
        content = error.read(10_000)
        body = json.loads(content)
        body = body.get("error", body)
        return str(body.get("message", body) if isinstance(body, dict) else body)[:300]
    except (OSError, http.client.HTTPException, ValueError, AttributeError):
        return "no message"


def _advice(status: int) -> str:
    if status in (401, 403):
        return "; name the variable with a valid key in api_key_env"
    if status == 404:
        return "; url must end before /embeddings (often with /v1), and model must be one the server has"
    if status in (400, 413, 422):
        return "; texts may be too long: see extra (such as truncate_prompt_tokens), or lower batch_size"
    return ""


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait, from a number or a date; bounded."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (TypeError, ValueError):
            return None
    return min(max(seconds, 0.0), LONGEST_ASKED_WAIT) if seconds == seconds else None
