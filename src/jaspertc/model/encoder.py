"""The whole forward pass: packed ids -> compressed embeddings -> backbone -> pooled -> vector.

Shape legend: T tokens, C compressed tokens, N texts, D model width, E embedding width.
"""

from copy import copy

from jaspertc.config import ModelConfig
from jaspertc.model.attention import PackedLayout
from jaspertc.model.backbones import Backbone, build_backbone
from jaspertc.model.compressors import FoldedTable, TokenRows, build_compressor
from jaspertc.model.compressors.lookup import check_ids
from jaspertc.model.heads import Head
from jaspertc.model.poolers import POOLERS
from jaspertc.model.transfer import to_device
from jaspertc.pytorch import Tensor, nn
from jaspertc.text.packing import PackedBatch
from jaspertc.types import FloatArray, IntArray


class Encoder(nn.Module):
    """A text encoder; the same code trains and serves. Compression is an argument of each call."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.backbone.hidden_size
        self.config = config
        self.backbone = build_backbone(config.backbone)
        self.compressor = build_compressor(config.compressor, width)
        self.head = Head(config.head, width)
        self._pool = POOLERS[config.pooler]
        self._folded: FoldedTable | None = None

    def fold(self) -> None:
        """Merge lookup and the compressor's transform into a table, for inference; ``train()`` undoes it."""
        transform = self.compressor.transform if self.compressor.transforms else None
        self._folded = FoldedTable(self.backbone.token_table, transform)

    def with_backbone(self, backbone: Backbone) -> "Encoder":
        """This encoder with other layers, everything else shared: what a runtime computes with."""
        other = copy(self)
        other._modules = {**self._modules, "backbone": backbone}
        return other

    def train(self, mode: bool = True) -> "Encoder":
        if mode:
            self._folded = None
        return super().train(mode)

    def forward(self, batch: PackedBatch, targets: IntArray) -> Tensor:
        """Vectors before normalisation.

        Args:
            batch: N texts of T tokens together.
            targets: compressed tokens per text, shape (N,), as ``compressor.target_lengths`` gives them.

        Returns:
            Shape (N, E), float32.

        Raises:
            InputError: a token id is outside the vocabulary.
        """
        return self.from_rows(self.compress(batch, targets), targets)

    def from_rows(self, x: Tensor, lengths: IntArray) -> Tensor:
        """Compressed embeddings or what stands for them, (C, D), and each text's rows, (N,) -> (N, E)."""
        layout = PackedLayout.of(lengths, x.device)
        x = self.backbone(x, layout)
        out: Tensor = self.head(self._pool(x, layout))
        return out

    def compress(self, batch: PackedBatch, targets: IntArray) -> Tensor:
        """Token lookup and the compressor: T ids -> (C, D)."""
        out: Tensor = self.compressor(self._look_up(batch.ids), batch, targets)
        return out

    def rows(self, ids: IntArray) -> FloatArray:
        """What the compressor reads of one text, on a CPU, (L,) -> (L, D).

        Raises:
            InputError: a token id is outside the vocabulary.
        """
        found = self._look_up(ids)
        table: FloatArray = found.table.numpy()
        # In numpy: PyTorch would wake threads for it, which then spin on the cores that the layers need.
        return table if found.index is None else table[found.index]

    def _look_up(self, ids: IntArray) -> TokenRows:
        check_ids(ids, self.backbone.token_table.num_embeddings)
        if self._folded is not None:
            return self._folded(ids)
        table = self.backbone.token_table
        return TokenRows(self.compressor.transform(table(to_device(ids, table.weight.device))))
