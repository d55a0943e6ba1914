"""Contenders that are other engines: the model's backbone, converted for them, mean-pooled, uncompressed.

``ort`` is ONNX Runtime alone, ``ct2`` CTranslate2, ``fastembed`` FastEmbed. Each sorts what it is given by
length and computes padded batches, as sentence-transformers does.

Shape legend: N texts, L tokens of a batch's longest text, D width.
"""

import json
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from jaspertc.checkpoint.load import TOKENIZER
from jaspertc.engine.precision import normalized
from jaspertc.errors import InputError
from jaspertc.types import FloatArray, IntArray
from lab.compare.inputs import Inputs

NEEDS = {"ort": ("onnxruntime", "onnx"), "ct2": ("ctranslate2",), "fastembed": ("fastembed", "onnxruntime")}
OPSET = 17


class PlainEngine:
    """A backbone in another engine.

    Args:
        kind: one of ``NEEDS``.
        folder: the backbone as Transformers loads it, with its tokenizer; files are written beside it.
        precision: ``float32`` or ``int8``.
        batch: texts in a batch.
        positions: tokens that are read of a text.

    Raises:
        InputError: a package is missing, or the engine cannot take the model.
    """

    def __init__(
        self, kind: str, folder: Path, *, precision: str, batch: int, threads: int, positions: int
    ) -> None:
        if missing := [name for name in NEEDS[kind] if find_spec(name) is None]:
            raise InputError(f"{kind} needs packages not installed: {', '.join(missing)}")
        self.tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(positions)
        self.batch = batch
        make = {"ort": _onnx_runtime, "ct2": _ctranslate2, "fastembed": _fastembed}[kind]
        try:
            self._run = make(folder, precision, threads, positions)
        except Exception as error:  # engines raise many kinds, by cause
            raise InputError(f"{kind} cannot take it ({type(error).__name__}: {error})") from error
        self._takes_texts = kind == "fastembed"

    def embed(self, inputs: Inputs, ratio: float | None) -> FloatArray:
        """Unit vectors of texts, shape (N, D); a ratio means nothing here."""
        texts = [str(text) for text in inputs]
        if self._takes_texts:
            order = np.argsort([-len(text) for text in texts], kind="stable")
            found: FloatArray = self._run([texts[place] for place in order], self.batch)
            return found[np.argsort(order)]
        rows = [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]
        order = np.argsort([-len(row) for row in rows], kind="stable")
        parts = [
            self._run([rows[place] for place in order[begin : begin + self.batch]])
            for begin in range(0, len(rows), self.batch)
        ]
        return normalized(np.concatenate(parts)[np.argsort(order)])

    def lengths(self, inputs: Inputs) -> IntArray:
        """Tokens that it reads of each text, shape (N,)."""
        rows = self.tokenizer.encode_batch([str(text) for text in inputs])
        return np.array([len(row.ids) for row in rows], dtype=np.int64)


def _masked_mean(states: FloatArray, mask: IntArray) -> FloatArray:
    """Of each text's own states: (N, L, D), (N, L) -> (N, D)."""
    summed = np.einsum("nld,nl->nd", states, mask.astype(np.float32))
    return np.asarray(summed / mask.sum(1, keepdims=True), dtype=np.float32)


def _padded(rows: Sequence[Sequence[int]]) -> tuple[IntArray, IntArray]:
    """Ids and mask, each of shape (N, L)."""
    lengths = np.array([len(row) for row in rows])
    mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
    ids = np.zeros_like(mask)
    ids[mask == 1] = np.concatenate(rows)
    return ids, mask


def _write_onnx(folder: Path, precision: str) -> Path:
    """The backbone as ONNX, last states out; ``int8``: weights quantised, activations at each call."""
    from transformers import AutoModel

    class States(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()

        def forward(self, ids: Any, mask: Any, types: Any) -> Any:
            return self.model(input_ids=ids, attention_mask=mask, token_type_ids=types).last_hidden_state

    names = ["input_ids", "attention_mask", "token_type_ids"]
    path = folder / "model.onnx"
    example = torch.ones(2, 8, dtype=torch.long)
    with torch.no_grad():
        torch.onnx.export(
            States(),
            (example, example, torch.zeros_like(example)),
            str(path),
            input_names=names,
            output_names=["last_hidden_state"],
            dynamic_axes={name: {0: "n", 1: "l"} for name in (*names, "last_hidden_state")},
            opset_version=OPSET,
            dynamo=False,
        )
    if precision == "float32":
        return path
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantised = folder / "model_int8.onnx"
    quantize_dynamic(path, quantised, weight_type=QuantType.QInt8)
    return quantised


def _onnx_runtime(folder: Path, precision: str, threads: int, positions: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(
        str(_write_onnx(folder, precision)), options, providers=["CPUExecutionProvider"]
    )

    def run(rows: Sequence[Sequence[int]]) -> FloatArray:
        ids, mask = _padded(rows)
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        return _masked_mean(session.run(None, feed)[0], mask)

    return run


def _ctranslate2(folder: Path, precision: str, threads: int, positions: int) -> Any:
    import ctranslate2
    from ctranslate2.converters import TransformersConverter

    # Its converter asks for what later versions of Transformers leave out, and names of tokens that it needs
    # for words alone.
    known = Tokenizer.from_file(str(folder / TOKENIZER)).id_to_token(0)  # another would be added
    unused = dict.fromkeys(("bos_token", "eos_token", "unk_token"), known)
    for name, values in (
        ("config.json", {"position_embedding_type": "absolute"}),
        ("tokenizer_config.json", unused),
    ):
        content = json.loads((folder / name).read_text(encoding="utf-8"))
        (folder / name).write_text(json.dumps({**values, **content}), encoding="utf-8")
    written = TransformersConverter(str(folder)).convert(str(folder / "ct2"), quantization=precision)
    encoder = ctranslate2.Encoder(written, device="cpu", compute_type=precision, intra_threads=threads)

    def run(rows: Sequence[Sequence[int]]) -> FloatArray:
        states = np.asarray(encoder.forward_batch([list(row) for row in rows]).last_hidden_state)
        return _masked_mean(states, _padded(rows)[1])

    return run


def _fastembed(folder: Path, precision: str, threads: int, positions: int) -> Any:
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType
    from transformers import AutoConfig

    name = f"lab/{folder.parent.name}-{folder.name}"
    TextEmbedding.add_custom_model(
        model=name,
        pooling=PoolingType.MEAN,
        normalization=True,
        sources=ModelSource(hf=name),
        dim=AutoConfig.from_pretrained(folder).hidden_size,
        model_file=_write_onnx(folder, precision).name,
    )
    model = TextEmbedding(name, specific_model_path=str(folder), threads=threads)
    model.model.tokenizer.enable_truncation(positions)
    embed = partial(model.embed, parallel=None)
    return lambda texts, batch: np.array(list(embed(texts, batch_size=batch)), dtype=np.float32)
