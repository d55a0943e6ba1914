"""The released code's way of computing vectors, for comparison: padded, with a loop over texts.

Token lookup and the compressor's MLP on every cell of a padded batch; then text by text its real tokens
pooled, after asking the device for their number; a padded forward of Transformers' model with an attention
mask; the pooler; the head. Nothing is folded or packed.

Shape legend: N texts, L tokens of the longest text, D width, E embedding width.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from jaspertc.checkpoint import Checkpoint
from jaspertc.config import BackboneConfig
from jaspertc.engine.precision import normalized
from jaspertc.errors import InputError, MissingExtraError
from jaspertc.types import FloatArray, IntArray
from lab.compare.inputs import Inputs


class PaddedModel:
    """A checkpoint, computed with padding.

    Args:
        checkpoint: its modules are used and converted.
        batch: texts in a padded batch. All texts of a call are sorted by length first, as
            sentence-transformers does.

    Raises:
        MissingExtraError: Transformers is not installed.
    """

    def __init__(
        self, checkpoint: Checkpoint, *, dtype: torch.dtype, device: torch.device, batch: int
    ) -> None:
        self.checkpoint, self.device, self.batch = checkpoint, device, batch
        self.config = checkpoint.info.config
        self.encoder = checkpoint.encoder.to(device=device, dtype=dtype).eval().requires_grad_(False)
        self.model = transformers_model(self.encoder.backbone, self.config.backbone).to(device)

    def embed(self, inputs: Inputs, ratio: float | None) -> FloatArray:
        """Vectors of texts or token ids, shape (N, E).

        Args:
            ratio: in (0, 1]; ``None`` leaves the compressor out, as if the model had none.
        """
        rows = self.rows(inputs, ratio)
        vectors = np.empty((len(rows), self._dims(ratio)), dtype=np.float32)
        order = np.argsort([-len(row) for row in rows], kind="stable")
        for begin in range(0, len(rows), self.batch):
            places = order[begin : begin + self.batch]
            vectors[places] = self._batch([rows[place] for place in places], ratio)
        return normalized(vectors) if self.config.normalize else vectors

    def rows(self, inputs: Inputs, ratio: float | None) -> list[IntArray]:
        """Token ids of each text; without compression, no more than the model has positions."""
        positions = self.config.backbone.max_positions
        limit = self.checkpoint.info.max_length
        if inputs and isinstance(inputs[0], str):
            texts = [str(text) for text in inputs]
            if ratio is None:
                limit = positions if limit is None else min(limit, positions)
            return self.checkpoint.tokenizer.encode_batch(texts, max_length=limit)
        return [np.asarray(row)[: positions if ratio is None else None] for row in inputs]

    def targets(self, lengths: IntArray, ratio: float | None) -> IntArray:
        """Tokens that the layers see of texts of these lengths, shape (N,) -> (N,)."""
        return np.array([self._target(int(length), ratio) for length in lengths], dtype=np.int64)

    def _target(self, length: int, ratio: float | None) -> int:
        threshold, positions = self.config.compressor.threshold, self.config.backbone.max_positions
        if ratio is None or length <= threshold:
            return min(length, positions)
        return min(int(threshold + (length - threshold) * ratio), positions)

    def _dims(self, ratio: float | None) -> int:
        return self.config.backbone.hidden_size if ratio is None else self.config.embedding_dims

    @torch.inference_mode()
    def _batch(self, rows: Sequence[IntArray], ratio: float | None) -> FloatArray:
        """A padded batch: N rows of token ids -> (N, E)."""
        longest = max(map(len, rows))
        ids = np.zeros((len(rows), longest), dtype=np.int64)
        filled = np.zeros((len(rows), longest), dtype=np.int64)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = row
            filled[place, : len(row)] = 1
        mask = torch.from_numpy(filled).to(self.device)
        x = self.encoder.backbone.token_table(torch.from_numpy(ids).to(self.device))
        if ratio is not None:
            x, mask = self._compress(self.encoder.compressor.transform(x), mask, ratio)
        hidden = self.model(inputs_embeds=x, attention_mask=mask).last_hidden_state.float()
        pooled = self._pool(hidden, mask)
        out: FloatArray = (pooled if ratio is None else self.encoder.head(pooled)).cpu().numpy()
        return out

    def _compress(self, x: Tensor, mask: Tensor, ratio: float) -> tuple[Tensor, Tensor]:
        """(N, L, D) with its mask -> shorter rows and their mask, one text at a time."""
        parts = []
        for place in range(len(x)):
            length = int(mask[place].sum())  # one answer of the device for each text
            target = self._target(length, ratio)
            row = x[place, :length]
            if length > self.config.compressor.threshold or target < length:
                row = F.adaptive_avg_pool1d(row.T[None], target)[0].T
            parts.append(row)
        longest = max(map(len, parts))
        shorter = torch.zeros(len(parts), longest, dtype=mask.dtype, device=mask.device)
        for place, part in enumerate(parts):
            shorter[place, : len(part)] = 1
        return torch.stack([F.pad(part, (0, 0, 0, longest - len(part))) for part in parts]), shorter

    def _pool(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """(N, L, D) -> (N, D)."""
        if self.config.pooler == "first":
            return hidden[:, 0]
        if self.config.pooler == "last":
            return hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(1) - 1]
        return (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def transformers_model(backbone: torch.nn.Module, shape: BackboneConfig, *, table: bool = False) -> Any:
    """Transformers' model of this shape on the backbone's own tensors, in evaluation mode.

    Args:
        table: give it the token table too, so that it can look up ids itself.

    Raises:
        MissingExtraError: Transformers is not installed.
    """
    build, config = _architecture(shape, shape.vocab_size if table else shape.position_offset + 8)
    config.num_hidden_layers, layers = 0, config.num_hidden_layers
    if hasattr(config, "layer_types"):
        config.layer_types, types = [], config.layer_types
    small = build(config)  # everything that is not a layer, with its buffers
    config.num_hidden_layers = layers
    if hasattr(config, "layer_types"):
        config.layer_types = types
    with torch.device("meta"):  # random values that are replaced at once would take seconds
        model = build(config)
    for name, module in small.named_children():
        if name not in ("layers", "encoder"):
            setattr(model, name, module)
    state = backbone.state_dict()
    lookup = next(name for name in state if name.endswith(("embed_tokens.weight", "word_embeddings.weight")))
    if not table:
        del state[lookup]
    found = model.load_state_dict(state, strict=False, assign=True)
    assert set(found.missing_keys) <= {lookup}, found
    assert not found.unexpected_keys, found
    return model.eval().requires_grad_(False)


def _architecture(shape: BackboneConfig, vocabulary: int) -> tuple[Any, Any]:
    try:
        import transformers
    except ImportError as error:
        raise MissingExtraError("transformers", "bench", "the contenders 'padded' and 'plain'") from error
    common = {
        "vocab_size": vocabulary,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_heads,
    }
    if shape.kind == "qwen3":
        if not shape.causal:
            raise InputError("Transformers' Qwen3 is causal, this model is not; leave padded and plain out")
        return transformers.Qwen3Model, transformers.Qwen3Config(
            **common,
            num_key_value_heads=shape.num_kv_heads,
            head_dim=shape.head_dim,
            rms_norm_eps=shape.norm_eps,
            rope_theta=shape.rope_theta,  # before version 5
            rope_parameters={"rope_theta": shape.rope_theta, "rope_type": "default"},
            max_position_embeddings=shape.max_positions,
            use_cache=False,
            pad_token_id=None,
        )
    options = common | {
        "max_position_embeddings": shape.max_positions + shape.position_offset,
        "type_vocab_size": shape.type_vocab_size,
        "layer_norm_eps": shape.norm_eps,
        "hidden_act": "gelu_new" if shape.gelu == "tanh" else "gelu",
        "pad_token_id": max(0, shape.position_offset - 1),
    }
    name = "XLMRoberta" if shape.position_offset else "Bert"
    model, config = getattr(transformers, f"{name}Model"), getattr(transformers, f"{name}Config")

    def build(settings: Any) -> Any:
        return model(settings, add_pooling_layer=False)

    return build, config(**options)
