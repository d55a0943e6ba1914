"""A teacher that is a checkpoint of ours: Qwen3, BERT family, Jasper."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from jaspertc.config import Between, Count, ModelName
from jaspertc.teachers.base import Teacher, TeacherConfig
from jaspertc.types import FloatArray


@dataclass(frozen=True, kw_only=True)
class JaspertcConfig(TeacherConfig):
    """A checkpoint that this package runs: ``batch_tokens`` is per batch, ``runtime`` ``Embedder.load``'s."""

    model: ModelName
    max_length: Count | None = None
    ratio: Annotated[float, Between(1e-6, 1)] | None = None
    pooler: Literal["mean", "last", "first"] | None = None
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    runtime: str = "auto"
    batch_tokens: Count | None = None


class JaspertcTeacher(Teacher):
    """A checkpoint that our own engine runs, batched by tokens.

    Raises:
        CheckpointError: there is no such model, or it is damaged or of an unsupported kind.
    """

    Config = JaspertcConfig

    def __init__(self, config: JaspertcConfig) -> None:
        from jaspertc.engine.embedder import Embedder

        self.model = Embedder.load(
            config.model,
            device=config.device,
            dtype=config.dtype,
            runtime=config.runtime,
            pooler=config.pooler,
        )
        if config.batch_tokens is not None:
            self.model.runtime.token_budget = config.batch_tokens
        self.max_length = self.model.max_length if config.max_length is None else config.max_length
        self.ratio = self.model.default_ratio if config.ratio is None else config.ratio
        self.dims = self.model.dims
        self.identity = {
            "kind": config.kind,
            "model": Path(config.model).name,
            "content hash": self.model.fingerprint,
            "max length": self.max_length,
            "pooling": self.model.config.pooler,
            "ratio": self.ratio,
            "threshold": self.model.default_threshold,
            "computed in": self.model.runtime.precision,
        }
        self._warned = False

    def encode(self, texts: Sequence[str], prompt: str) -> FloatArray:
        """See ``Teacher``. That long texts are cut is said once."""
        from jaspertc.engine.options import LongTextWarning

        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if self._warned else "always", LongTextWarning)
            with warnings.catch_warnings(record=True) as caught:
                vectors = self.model.encode(
                    list(texts), prompt=prompt, max_length=self.max_length, ratio=self.ratio
                )
        for item in caught:
            if issubclass(item.category, LongTextWarning) and self._warned:
                continue
            self._warned = self._warned or issubclass(item.category, LongTextWarning)
            warnings.warn_explicit(item.message, item.category, item.filename, item.lineno)
        return np.asarray(vectors, dtype=np.float32)
