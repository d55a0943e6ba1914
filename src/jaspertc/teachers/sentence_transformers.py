"""A teacher that the library sentence-transformers loads."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaspertc.config import Count, ModelName
from jaspertc.errors import MissingExtraError, TeacherError
from jaspertc.teachers.base import PROBE, Teacher, TeacherConfig
from jaspertc.types import FloatArray


@dataclass(frozen=True, kw_only=True)
class SentenceTransformersConfig(TeacherConfig):
    """Any model that sentence-transformers loads without remote code."""

    model: ModelName
    max_length: Count | None = None
    batch_size: Count = 32
    device: str | None = None
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"


class SentenceTransformersTeacher(Teacher):
    """Any model that sentence-transformers loads; remote code is not run.

    Raises:
        MissingExtraError: the library is not installed.
        TeacherError: it cannot load the model.
    """

    Config = SentenceTransformersConfig

    def __init__(self, config: SentenceTransformersConfig) -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise MissingExtraError("sentence-transformers", "teach", "this kind of teacher") from error
        try:
            self.model: Any = SentenceTransformer(
                config.model, device=config.device, model_kwargs={"dtype": config.dtype}
            )
        except Exception as error:  # the library raises many kinds, by cause
            raise TeacherError(
                f"teacher {config.name!r}: sentence-transformers cannot load {config.model!r} "
                f"({type(error).__name__}: {error}); give a model's folder or hub name as model"
            ) from error
        if config.max_length is not None:
            self.model.max_seq_length = config.max_length
        self.batch_size = config.batch_size
        self.dims = self.encode([PROBE], "").shape[1]
        self.identity = {
            "kind": config.kind,
            "model": Path(config.model).name,
            "content hash": self._content_hash(),
            "max length": self.model.max_seq_length,
            "pooling": self._pooling(),
            "computed in": config.dtype,
        }

    def encode(self, texts: Sequence[str], prompt: str) -> FloatArray:
        """See ``Teacher``."""
        vectors = self.model.encode(
            list(texts),
            prompt=prompt,
            batch_size=self.batch_size,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return np.asarray(vectors, dtype=np.float32)

    def _content_hash(self) -> str:
        import torch

        digest = hashlib.sha256()
        for name, weight in self.model.state_dict().items():
            digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
            digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        backend = getattr(self.model.tokenizer, "backend_tokenizer", None)
        if backend is not None:
            tokenizer = type(backend).from_str(backend.to_str())  # batches leave their settings in it
            tokenizer.no_truncation()
            tokenizer.no_padding()
            digest.update(tokenizer.to_str().encode())
        return digest.hexdigest()[:16]

    def _pooling(self) -> str:
        modules = [*self.model]
        modes = [getattr(item, "pooling_mode", None) for item in modules]
        names = "-".join(type(item).__name__ for item in modules)
        return " ".join([names, *(str(mode) for mode in modes if mode is not None)])
