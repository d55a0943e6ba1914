"""Loads a jaspertc checkpoint in sentence-transformers; a copy of this file travels in each folder.

    model = SentenceTransformer(folder, trust_remote_code=True)
    model.encode(texts, prompt_name="query", compression_ratio=0.33)

Needs ``pip install jaspertc``. Texts are packed, so no padding is computed. Long ones are read as by
``Embedder.encode``, in pieces if the model's folder says so. The prompt is in every piece; only in the first
one where sentence-transformers makes it a part of the text, as older versions do.

Shape legend: N texts, R rows (pieces of texts), T tokens of all rows, E width of the vectors.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

try:
    from sentence_transformers.base.modules import Module
except ImportError:  # before version 6
    from sentence_transformers.models import Module

from jaspertc.engine.batching import plan_batches
from jaspertc.engine.embedder import Embedder
from jaspertc.engine.pieces import TextRows
from jaspertc.engine.processes import computing
from jaspertc.engine.runtimes.base import TOKEN_BUDGET
from jaspertc.engine.runtimes.torch_runtime import TorchRuntime
from jaspertc.text.packing import offsets_of, pack
from jaspertc.types import IntArray


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
        """Texts to rows of ids: ``input_ids`` of all rows, shape (T,), and ``row_lengths``, shape (R,); how
        many ``rows`` a text has and the ``lengths`` of texts as a whole, shape (N,)."""
        prompt = prompt or ""
        ids = self.embedder.tokenize(inputs, prompt=prompt, max_length=self.max_seq_length)
        texts = self.embedder.fitting.text_rows(ids, inputs, prompt)
        return {
            "input_ids": torch.from_numpy(np.concatenate(texts.rows)),
            "row_lengths": torch.tensor([len(row) for row in texts.rows]),
            "rows": torch.from_numpy(np.diff(texts.starts)),
            "lengths": torch.from_numpy(texts.lengths),
        }

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
        names = ("input_ids", "row_lengths", "rows", "lengths")
        ids, row_lengths, counts, lengths = (features[name].cpu().numpy() for name in names)
        rows = np.split(ids, np.cumsum(row_lengths)[:-1])
        texts = TextRows(rows=rows, starts=offsets_of(counts), lengths=lengths)
        targets = self.embedder.fitting.row_targets(
            texts,
            ratio=self.embedder.default_ratio if compression_ratio is None else compression_ratio,
            threshold=length_threshold,
            max_compressed=max_compressed,
        )
        with computing:
            vectors = self._embed(texts, targets)
        normalize = self.embedder.config.normalize
        features["sentence_embedding"] = F.normalize(vectors, dim=-1) if normalize else vectors
        return features

    def _embed(self, texts: TextRows, targets: IntArray) -> torch.Tensor:
        """Vectors of texts before normalisation, shape (N, E), from rows computed in batches."""
        device = self.encoder.backbone.token_table.weight.device
        text_of = np.repeat(np.arange(len(texts)), np.diff(texts.starts))
        shares, lengths = texts.shares(targets), np.array([len(row) for row in texts.rows])
        vectors = torch.zeros(len(texts), self.embedder.dims, device=device)
        budget = TOKEN_BUDGET.get(device.type, TOKEN_BUDGET["cpu"])
        for index in plan_batches(targets, lengths, token_budget=budget):
            found = self.encoder(pack([texts.rows[row] for row in index]), targets[index])
            part = torch.from_numpy(shares[index]).to(device)[:, None] * found
            vectors.index_add_(0, torch.from_numpy(text_of[index]).to(device), part)
        return vectors

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
