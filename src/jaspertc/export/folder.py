"""What lies beside an exported graph: tokenizer, settings for those who load it, and a page that says how."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jaspertc.checkpoint import Checkpoint
from jaspertc.checkpoint.files import WEIGHTS, WEIGHTS_INDEX
from jaspertc.errors import CheckpointError
from jaspertc.export.graph import OPSET
from jaspertc.files.aside import written_aside

LONGEST = 32_768  # tokens of a text, where the model sets no limit; some loaders want one
UNKNOWN = "not stated in the model's folder"
README = "README.md"
WRITTEN_BY = "| written by | jaspertc"  # in the README of every export


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What an export says about itself.

    Attributes:
        max_length: tokens at which loaders cut a text.
        piece_length: tokens from which on ``encode`` cuts a text into pieces, which the graph does not.
        licence: as the model's own README names it.
    """

    name: str
    weights: str
    dims: int
    compressor: str
    backbone: str
    positions: int
    ratio: float | None
    threshold: int | None
    prompts: Mapping[str, str]
    default_prompt_name: str | None
    max_length: int
    piece_length: int | None
    fingerprint: str
    licence: str

    @classmethod
    def of(cls, checkpoint: Checkpoint, weights: str, ratio: float, threshold: int) -> "Facts":
        """The facts of a model's export."""
        info, config = checkpoint.info, checkpoint.info.config
        compresses = checkpoint.compressor.can_compress
        limit, positions = info.max_length or LONGEST, config.backbone.max_positions
        return cls(
            name=checkpoint.name if checkpoint.name == checkpoint.folder.name else checkpoint.folder.name,
            weights=weights,
            dims=config.embedding_dims,
            compressor=config.compressor.kind,
            backbone=config.backbone.kind,
            positions=positions,
            ratio=ratio if compresses else None,
            threshold=threshold if compresses else None,
            prompts=dict(info.prompts),
            default_prompt_name=info.default_prompt_name,
            max_length=limit if compresses else min(limit, positions),
            piece_length=info.piece_length and min(info.piece_length, positions),
            fingerprint=checkpoint.fingerprint,
            licence=licence_of(checkpoint.folder),
        )

    def metadata(self) -> dict[str, str]:
        """Strings for the file's own metadata, by ``jaspertc.`` and a name; texts by name are JSON."""
        values: dict[str, Any] = {
            "version": version("jaspertc"),
            "model": self.name,
            "fingerprint": self.fingerprint,
            "weights": self.weights,
            "compressor": self.compressor,
            "backbone": self.backbone,
            "dims": self.dims,
            "positions": self.positions,
            "ratio": self.ratio,
            "threshold": self.threshold,
            "max_length": self.max_length,
            "piece_length": self.piece_length,
            "prompts": json.dumps(self.prompts, ensure_ascii=False),
            "default_prompt_name": self.default_prompt_name,
            "licence": self.licence,
        }
        return {f"jaspertc.{key}": str(value) for key, value in values.items() if value is not None}


def licence_of(folder: Path) -> str:
    """The licence that a model's README names, in its front matter or on a line of its own.

    >>> licence_of(Path("nowhere"))
    "not stated in the model's folder"
    """
    path = folder / "README.md"
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    line = re.search(r"^licen[cs]e\s*:\s*(.+?)\s*$", text, re.MULTILINE | re.IGNORECASE)
    return line[1].strip("\"'") if line else UNKNOWN


def check_output(out: Path, *, overwrite: bool) -> None:
    """Find out early whether ``out`` may be written.

    Raises:
        CheckpointError: it does not end in .onnx, is there already, or lies in a checkpoint's folder.
    """
    if out.suffix != ".onnx":
        raise CheckpointError(f"OUT is {out}, it must end in .onnx")
    if out.exists() and not overwrite:
        raise CheckpointError(f"{out} exists already; give another name, or --overwrite to replace it")
    if any((out.parent / name).exists() for name in (WEIGHTS, WEIGHTS_INDEX)):
        raise CheckpointError(
            f"{out.parent} holds a checkpoint, whose tokenizer and README would be replaced; "
            "choose another folder"
        )


def beside(out: Path, facts: Facts, tokenizer_json: str | None) -> dict[Path, str]:
    """The files beside ``out`` and what is in them."""
    contents = {README: readme(out.name, facts)}
    if tokenizer_json is not None:
        pad = padding_token(tokenizer_json)
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": facts.max_length,
            "pad_token": pad,
            "padding_side": "right",
        }
        config = {"model_type": "jaspertc", "hidden_size": facts.dims, "prompts": dict(facts.prompts)}
        contents |= {
            "tokenizer.json": tokenizer_json,
            "tokenizer_config.json": _json(settings),
            "special_tokens_map.json": _json({"pad_token": pad}),
            "config.json": _json(config),
        }
    return {out.parent / name: content for name, content in contents.items()}


def check_beside(contents: Mapping[Path, str]) -> None:
    """Find out before the graph is built whether the files beside it would replace others.

    Raises:
        CheckpointError: one is there with another content; but an export's README may be replaced.
    """
    others = [path for path, content in contents.items() if path.exists() and not _may_replace(path, content)]
    if others:
        raise CheckpointError(
            f"{others[0].parent} has a different {', '.join(path.name for path in others)}, which others may "
            "need; choose another folder, or --overwrite to replace what is there"
        )


def _may_replace(path: Path, content: str) -> bool:
    if not path.is_file():
        return False
    there = path.read_bytes()
    return there == content.encode() or (path.name == README and WRITTEN_BY.encode() in there)


def write_beside(contents: Mapping[Path, str]) -> list[Path]:
    """Write the files beside the graph, and say which."""
    for path, content in contents.items():
        with written_aside(path) as file:
            file.write(content.encode())
    return list(contents)


def padding_token(tokenizer_json: str) -> str:
    """A token to pad with: the tokenizer's own or, since the mask hides it, any."""
    content = json.loads(tokenizer_json)
    if content.get("padding"):
        return str(content["padding"]["pad_token"])
    vocabulary = content["model"]["vocab"]
    pieces = [piece for piece, _ in vocabulary] if isinstance(vocabulary, list) else list(vocabulary)
    known = {*pieces, *(token["content"] for token in content.get("added_tokens", []))}
    usual = ("<pad>", "[PAD]", "<|endoftext|>", "</s>")
    return next((token for token in usual if token in known), pieces[0])


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _long_texts(facts: Facts) -> str:
    """What the graph does with long texts, and where ``encode`` does something else."""
    said = f"""A text of more than {facts.positions} tokens after compression is compressed to that many, as
`encode(..., long_texts="compress")` does."""
    if facts.ratio is None:
        said = f"""A text of more than {facts.positions} tokens loses its end, special tokens included;
`tokenizer.enable_truncation({facts.positions})` keeps those."""
    if facts.piece_length is None:
        return said
    return f"""{said}
By default, `encode` reads a text of more than {facts.piece_length} tokens in pieces, and its vector is
another one: cut longer texts into pieces yourself."""


def readme(file: str, facts: Facts) -> str:
    """The page beside the graph."""
    rows = {
        "model": f"{facts.name}, fingerprint {facts.fingerprint}",
        "licence": facts.licence,
        "weights": facts.weights,
        "vectors": f"{facts.dims} dimensions",
        "compressor": facts.compressor,
        "default ratio": "no dial" if facts.ratio is None else f"{facts.ratio:g}",
        "default threshold": "no dial" if facts.threshold is None else f"{facts.threshold} tokens",
        "prompts": ", ".join(f"`{name}`: `{text}`" for name, text in facts.prompts.items()) or "none",
        "operators": f"ONNX, opset {OPSET}",
        "written by": f"jaspertc {version('jaspertc')}",
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    prompt = facts.prompts.get(facts.default_prompt_name or "query", "")
    feeds = '{"input_ids": ids, "attention_mask": mask'
    feeds += "}" if facts.ratio is None else ', "ratio": np.array([0.33])}'
    inputs = "`input_ids` and `attention_mask`, (N, L) int64"
    if facts.ratio is not None:
        inputs += (
            "; `ratio`, float64, and `threshold`, int64, each with one value or one for each text. A ratio "
            "above 1 counts as 1, below 0 as 0, NaN as the default; a threshold below 1 as 1"
        )
    return f"""# {facts.name} as ONNX

| | |
|---|---|
{table}

Inputs: {inputs}.
Ids outside the vocabulary count as the nearest one; a text without tokens has a vector of zeros.
{_long_texts(facts)}
Output: `embedding`, (N, {facts.dims}) float32.

```python
import numpy as np
import onnxruntime
from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file("tokenizer.json")
tokenizer.enable_padding()
texts = [{prompt!r} + text for text in ("why does bread rise?", "面包为什么会发起来？")]
encoded = tokenizer.encode_batch(texts)
ids = np.array([e.ids for e in encoded])
mask = np.array([e.attention_mask for e in encoded])
session = onnxruntime.InferenceSession("{file}")
vectors, = session.run(["embedding"], {feeds})
```
"""
