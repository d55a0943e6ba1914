"""Contenders that sentence-transformers runs: a folder of its own, or the model's backbone on a backend.

Shape legend: N texts, E embedding width.
"""

import logging
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from jaspertc.checkpoint import Checkpoint
from jaspertc.checkpoint.load import TOKENIZER
from jaspertc.config import BackboneConfig
from jaspertc.errors import InputError, MissingExtraError
from jaspertc.types import FloatArray, IntArray
from lab.compare.inputs import Inputs
from lab.compare.padded import transformers_model

NEEDS = {"torch": (), "onnx": ("optimum", "onnxruntime"), "openvino": ("optimum", "openvino")}


def missing_packages(backend: str) -> list[str]:
    """What a backend of sentence-transformers needs and is not installed."""
    return [name for name in ("sentence_transformers", *NEEDS[backend]) if find_spec(name) is None]


class SentenceModel:
    """A folder as sentence-transformers loads it; no remote code is run and nothing is downloaded.

    Args:
        precision: ``float32`` or ``bfloat16``.
        batch: texts in a batch.
        backend: ``torch``, ``onnx`` or ``openvino``.

    Raises:
        MissingExtraError: sentence-transformers is not installed.
        InputError: it cannot load the folder.
    """

    def __init__(
        self, folder: Path, *, precision: str, device: str, batch: int, backend: str = "torch"
    ) -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise MissingExtraError("sentence-transformers", "evaluate", "such a contender") from error
        _be_quiet()
        options = {"dtype": precision} if backend == "torch" else {"export": True}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.model: Any = SentenceTransformer(
                    str(folder), device=device, backend=backend, local_files_only=True, model_kwargs=options
                )
        except Exception as error:  # the library raises many kinds, by cause
            raise InputError(
                f"sentence-transformers cannot load {folder.name!r} ({type(error).__name__}: {error})"
            ) from error
        self.batch = batch

    def embed(self, inputs: Inputs, ratio: float | None) -> FloatArray:
        """Vectors of texts, shape (N, E); a ratio means nothing here."""
        vectors = self.model.encode(
            [str(text) for text in inputs],
            batch_size=self.batch,
            convert_to_numpy=True,
            normalize_embeddings=True,
            show_progress_bar=False,
        )
        return np.asarray(vectors, dtype=np.float32)

    def lengths(self, inputs: Inputs) -> IntArray:
        """Tokens that it reads of each text, shape (N,)."""
        tokenizer = getattr(self.model.tokenizer, "backend_tokenizer", None)
        if tokenizer is None:
            raise InputError("a peer's tokenizer must be one of the tokenizers library")
        own = type(tokenizer).from_str(tokenizer.to_str())
        own.no_truncation()
        own.no_padding()
        counts = [len(encoding.ids) for encoding in own.encode_batch([str(text) for text in inputs])]
        most = self.model.max_seq_length
        return np.minimum(counts, np.iinfo(np.int64).max if most is None else most).astype(np.int64)


def _be_quiet() -> None:
    """No reports and bars of loading: they would mix with ours."""
    from transformers.utils import logging as theirs

    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)


def write_plain_folder(checkpoint: Checkpoint, folder: Path) -> Path:
    """The backbone without compressor and head as a folder that Transformers loads, in float32."""
    _be_quiet()
    shape = checkpoint.info.config.backbone
    encoder = checkpoint.encoder.float()
    transformers_model(encoder.backbone, shape, table=True).save_pretrained(folder)
    _write_tokenizer(checkpoint.tokenizer.to_json(), shape, folder)
    return folder


def with_tokenizer(folder: Path, shape: BackboneConfig | None, scratch: Path) -> Path:
    """A peer's folder, or a copy by links with what Transformers needs to read its ``tokenizer.json``:
    without a ``tokenizer_config.json`` it would make another tokenizer of it."""
    if shape is None or (folder / "tokenizer_config.json").is_file() or not (folder / TOKENIZER).is_file():
        return folder
    scratch.mkdir(parents=True)
    for item in folder.iterdir():
        if item.name != TOKENIZER:
            (scratch / item.name).symlink_to(item.resolve())
    _write_tokenizer((folder / TOKENIZER).read_text(encoding="utf-8"), shape, scratch)
    return scratch


def _write_tokenizer(content: str, shape: BackboneConfig, folder: Path) -> None:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer.from_str(content)
    padding = tokenizer.id_to_token(max(0, shape.position_offset - 1))  # which one matters to positions only
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=padding, model_max_length=shape.max_positions
    ).save_pretrained(folder)
