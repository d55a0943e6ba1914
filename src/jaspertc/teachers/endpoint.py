"""Requests to an OpenAI-compatible ``/embeddings`` (SPEC.md section 7), several at once.

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
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from jaspertc.errors import ConfigError, JasperError
from jaspertc.recipe.recipe import OpenAITeacher

RETRIED = {408, 409, 429}
FIRST_WAIT, LONGEST_WAIT, LONGEST_ASKED_WAIT = 0.5, 30.0, 300.0

FloatArray = npt.NDArray[np.float32]


class TeacherError(JasperError):
    """A teacher cannot be loaded or reached, or gives something else than vectors."""


class Endpoint:
    """One model behind a URL.

    Raises:
        ConfigError: the environment variable with the key is not set.
    """

    def __init__(self, recipe: OpenAITeacher) -> None:
        self.recipe = recipe
        base = recipe.url.rstrip("/")
        self.url = base if base.endswith("/embeddings") else f"{base}/embeddings"
        self.headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if recipe.api_key_env is not None:
            key = os.environ.get(recipe.api_key_env, "")
            if not key:
                raise ConfigError(
                    f"teacher {recipe.name!r}: api_key_env is {recipe.api_key_env!r}, but this environment "
                    "variable is not set; export it, or remove api_key_env for a server without keys"
                )
            self.headers["Authorization"] = f"Bearer {key}"

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Vectors in the order of the texts, shape (N, E), float32.

        Raises:
            TeacherError: no sound answer after all retries; the message has the server's own.
        """
        size = self.recipe.batch_size
        batches = [list(texts[begin : begin + size]) for begin in range(0, len(texts), size)]
        if len(batches) == 1:
            return self._request(batches[0])
        with ThreadPoolExecutor(self.recipe.parallel) as pool:
            futures = [pool.submit(self._request, batch) for batch in batches]
            try:
                found = [future.result() for future in futures]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        widths = sorted({rows.shape[1] for rows in found})
        if len(widths) > 1:
            raise self._error(f"gave vectors of different widths: {', '.join(map(str, widths))}")
        return np.concatenate(found)

    def _request(self, texts: list[str]) -> FloatArray:
        body: dict[str, Any] = {
            **self.recipe.extra,
            "model": self.recipe.model,
            "input": texts,
            "encoding_format": self.recipe.encoding_format,
        }
        if self.recipe.dimensions is not None:
            body["dimensions"] = self.recipe.dimensions
        return self._vectors(self._answer(json.dumps(body).encode()), len(texts))

    def _answer(self, body: bytes) -> Any:
        request = urllib.request.Request(self.url, data=body, headers=self.headers, method="POST")
        wait = FIRST_WAIT
        for attempts_left in range(self.recipe.retries, -1, -1):
            asked: float | None = None
            try:
                with urllib.request.urlopen(request, timeout=self.recipe.timeout) as response:
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
                    f"{problem}, after {self.recipe.retries + 1} attempts; see url and the server"
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
            places = [int(item["index"]) for item in items]
            rows = [_decoded(item["embedding"]) for item in items]
        except (KeyError, TypeError, ValueError) as error:
            raise self._error(
                f"gave no list of embeddings ({type(error).__name__}: {error}); is it an embeddings model?"
            ) from error
        if sorted(places) != list(range(count)):
            raise self._error(f"gave {len(places)} embeddings for {count} texts, or wrong indices")
        if len({row.shape for row in rows}) != 1 or rows[0].ndim != 1 or not len(rows[0]):
            raise self._error("gave vectors of different widths, or none at all")
        vectors = np.empty((count, len(rows[0])), dtype=np.float32)
        vectors[places] = rows
        return vectors

    def _error(self, message: str) -> TeacherError:
        return TeacherError(f"teacher {self.recipe.name!r}: {self.url} {message}")


def _decoded(value: Any) -> FloatArray:
    """Base64 of little-endian float32, or a list of numbers; shape (E,)."""
    if isinstance(value, str):
        return np.frombuffer(base64.b64decode(value, validate=True), dtype="<f4").astype(np.float32)
    return np.asarray(value, dtype=np.float32)


def _server_message(error: urllib.error.HTTPError) -> str:
    try:
        content = error.read(10_000)
        found = json.loads(content)
        found = found.get("error", found)
        return str(found.get("message", found) if isinstance(found, dict) else found)[:300]
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
