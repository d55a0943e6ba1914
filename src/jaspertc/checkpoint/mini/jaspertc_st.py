"""Loads a jaspertc checkpoint in sentence-transformers; a copy of this file travels in each folder.

    model = SentenceTransformer(folder, trust_remote_code=True)
    model.encode(texts, prompt_name="query", compression_ratio=0.33)

Needs ``pip install jaspertc``. Texts are packed, so no padding is computed.
"""

import shutil
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

try:
    from sentence_transformers.base.modules import Module
except ImportError:  # before version 6
    from sentence_transformers.models import Module

from jaspertc.engine.embedder import Embedder
from jaspertc.engine.processes import computing
from jaspertc.engine.runtimes.torch_runtime import TorchRuntime
from jaspertc.text.packing import PackedBatch, offsets_of


class JasperEncoder(Module):  # type: ignore[misc]
    """The whole pipeline: texts to vectors, of unit length if the model's are."""

    forward_kwargs = {"compression_ratio", "length_threshold", "max_compressed"}  # noqa: RUF012
    save_in_root = True

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.embedder = Embedder.load(folder, device="cpu", dtype="float32")
        assert isinstance(self.embedder.runtime, TorchRuntime)
        self.encoder = self.embedder.runtime.encoder
        self.max_seq_length = self.embedder.max_length

    def __reduce__(self) -> tuple[Any, ...]:
        """Copied or sent to another process, it is its folder: weights laid out for a processor stay here."""
        return type(self), (str(self.folder),), {"max_seq_length": self.max_seq_length}

    def preprocess(self, inputs: list[str], prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Texts to packed ids: ``input_ids`` of all texts, shape (T,), and ``lengths``, shape (N,)."""
        rows = self.embedder.tokenize(inputs, prompt=prompt or "", max_length=self.max_seq_length)
        lengths = torch.tensor([len(row) for row in rows])
        return {"input_ids": torch.cat([torch.from_numpy(row) for row in rows]), "lengths": lengths}

    def tokenize(self, texts: list[str], **kwargs: Any) -> dict[str, Any]:
        """The older name of ``preprocess``."""
        return self.preprocess(texts, **kwargs)

    def forward(
        self,
        features: dict[str, Any],
        compression_ratio: float | None = None,
        length_threshold: int | None = None,
        max_compressed: int | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        lengths = features["lengths"].cpu().numpy()
        batch = PackedBatch(
            ids=features["input_ids"].cpu().numpy(), lengths=lengths, offsets=offsets_of(lengths)
        )
        targets = self.embedder.target_lengths(
            lengths, ratio=compression_ratio, threshold=length_threshold, max_compressed=max_compressed
        )
        with computing:
            vectors = self.encoder(batch, targets)
        normalize = self.embedder.config.normalize
        features["sentence_embedding"] = F.normalize(vectors, dim=-1) if normalize else vectors
        return features

    def get_sentence_embedding_dimension(self) -> int:
        """Width of the vectors."""
        return self.embedder.dims

    get_embedding_dimension = get_sentence_embedding_dimension

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        """Copy the checkpoint folder."""
        if Path(output_path).resolve() != self.folder.resolve():
            names = shutil.ignore_patterns("modules.json", "config_sentence_transformers.json", "1_*")
            shutil.copytree(self.folder, output_path, dirs_exist_ok=True, ignore=names)

    @classmethod
    def load(cls, model_name_or_path: str, *args: Any, **kwargs: Any) -> "JasperEncoder":
        """Called by sentence-transformers with the folder or hub name."""
        wanted = {key: kwargs.get(key) for key in ("token", "cache_folder", "revision")}
        folder = cls.load_dir_path(
            model_name_or_path, local_files_only=bool(kwargs.get("local_files_only")), **wanted
        )
        return cls(folder or model_name_or_path)
