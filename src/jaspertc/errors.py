"""The errors a user can meet, as one tree.

    JasperError
    ├── InputError              a text, token id or argument; also a ValueError
    │   ├── DuplicateError      two texts have one id
    │   ├── PictureError        a picture
    │   └── RatioError          a ratio, threshold or maximum compressed length
    ├── ConfigError             a value of a configuration or recipe; also a ValueError
    ├── CheckpointError         a model's folder
    │   └── TokenizerError      its tokenizer
    ├── DataFileError           a file of texts or vectors
    ├── CacheError              teachers' vectors on disk
    ├── VectorError             a vector that is not finite
    ├── IndexFileError          a search index
    ├── TeacherError            a teacher, or its endpoint
    ├── TrainingError           a run
    ├── ClusterError            workers
    ├── RequestError            a request to the server
    └── MissingExtraError       an optional package; also an ImportError

Each message names the value, what is allowed and what to do about it. ``assert`` is kept for our own bugs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class JasperError(Exception):
    """Any mistake or condition that a user can act on."""


class InputError(JasperError, ValueError):
    """A text, token id or argument of a call is not acceptable."""


class DuplicateError(InputError):
    """Two texts have one id; ``rows`` are their numbers, the lower first."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"rows {first} and {second} have the same id")
        self.rows: tuple[int, int] = (min(first, second), max(first, second))


class PictureError(InputError):
    """A picture cannot be read, or has too many pixels."""


class RatioError(InputError):
    """A compression ratio, threshold or maximum compressed length is out of range."""


class ConfigError(JasperError, ValueError):
    """A configuration value is unknown, missing or out of range."""


class CheckpointError(JasperError):
    """A checkpoint is missing, incomplete, corrupt or of an unsupported kind."""


class TokenizerError(CheckpointError):
    """A tokenizer is missing or cannot be read."""


class DataFileError(JasperError):
    """A file of texts cannot be read or written, or has the wrong schema."""


class CacheError(JasperError):
    """Cached vectors are damaged, missing, or of another teacher, prompt or text."""


class VectorError(JasperError):
    """A vector is not finite: the model's weights, or what they compute for a text, overflow."""


class IndexFileError(JasperError):
    """A search index cannot be opened, does not match the model, or could not be written."""


class TeacherError(JasperError):
    """A teacher cannot be loaded or reached, or gives something else than vectors."""


class TrainingError(JasperError):
    """Training cannot start, go on or be resumed."""


class ClusterError(JasperError):
    """Work on a cluster cannot start or go on. What is finished stays."""


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

    def body(self) -> dict[str, Any]:
        """``{"error": {message, type, param, code}}``."""
        return {"error": {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}}


class MissingExtraError(JasperError, ImportError):
    """An optional package is needed; the message names the extra that installs it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package {package!r}: pip install 'jaspertc[{extra}]'")


@contextmanager
def torch_needed_for(purpose: str) -> Iterator[None]:
    """An import of PyTorch that fails within, where it is not installed, becomes MissingExtraError."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingExtraError("torch", "torch", purpose) from error
