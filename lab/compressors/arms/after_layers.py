"""Pooling later: the first layers read every token, then windows are averaged and the other layers go on.

Shape legend: T tokens, C compressed tokens, N texts, D width, E width of the vectors.
"""

from torch import Tensor

from jaspertc.model.attention import PackedLayout
from jaspertc.model.backbones.bert import BertBackbone
from jaspertc.model.compressors.lookup import TokenRows
from jaspertc.model.encoder import Encoder
from jaspertc.text.packing import PackedBatch
from jaspertc.types import IntArray


class AfterLayers(Encoder):
    """An encoder of BERT's kind whose compressor averages states after ``layers`` of its layers.

    Positions and token type are added to all T tokens; means of states get none of their own. Nothing is new,
    so it is also what an encoder computes without training.
    """

    layers: int

    @classmethod
    def of(cls, encoder: Encoder, layers: int) -> "AfterLayers":
        """An encoder that shares all modules with another."""
        assert isinstance(encoder.backbone, BertBackbone)
        other = cls.__new__(cls)
        other.__dict__.update(encoder.__dict__)
        other.layers = layers
        return other

    def forward(self, batch: PackedBatch, targets: IntArray) -> Tensor:
        backbone = self.backbone
        assert isinstance(backbone, BertBackbone)
        x = self._look_up(batch.ids).each()
        layout = PackedLayout.of(batch.lengths, x.device)
        x = backbone.embeddings(x, layout)
        for layer in backbone.encoder.layer[: self.layers]:
            x = backbone.run(layer, x, layout)
        if (targets != batch.lengths).any():
            x = TokenRows(x).pooled(self.compressor.windows(batch, targets))
            layout = PackedLayout.of(targets, x.device)
        for layer in backbone.encoder.layer[self.layers :]:
            x = backbone.run(layer, x, layout)
        out: Tensor = self.head(self._pool(x, layout))
        return out
