"""The BERT and XLM-RoBERTa family: post-norm, learned positions, GELU, bidirectional.

Parameter names are those of Transformers' ``BertModel``.
Shape legend: C compressed tokens, D model width.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from jaspertc.config import BackboneConfig
from jaspertc.model.attention import PackedLayout, attention
from jaspertc.model.backbones.base import Backbone


class BertEmbeddings(nn.Module):
    """Adds positions and token type to (compressed) word embeddings, then normalises."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.position_offset = config.position_offset
        self.word_embeddings = nn.Embedding(config.vocab_size, width)
        self.position_embeddings = nn.Embedding(config.max_positions + config.position_offset, width)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, width)
        self.LayerNorm = nn.LayerNorm(width, eps=config.norm_eps)

    def forward(self, x: Tensor, layout: PackedLayout) -> Tensor:
        positions = self.position_embeddings(layout.positions + self.position_offset)
        out: Tensor = self.LayerNorm(x + self.token_type_embeddings.weight[0] + positions)
        return out


class BertSelfAttention(nn.Module):
    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_size
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)

    def forward(self, x: Tensor, layout: PackedLayout) -> Tensor:
        heads = (len(x), self.config.num_heads, self.config.head_dim)
        q, k, v = (layer(x).view(heads) for layer in (self.query, self.key, self.value))
        return attention(q, k, v, layout, causal=self.config.causal)


class BertOutput(nn.Module):
    """LayerNorm(residual + dense(x))."""

    def __init__(self, config: BackboneConfig, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        out: Tensor = self.LayerNorm(self.dense(x) + residual)
        return out


class BertAttention(nn.Module):
    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.self = BertSelfAttention(config)
        self.output = BertOutput(config, config.hidden_size)

    def forward(self, x: Tensor, layout: PackedLayout) -> Tensor:
        out: Tensor = self.output(self.self(x, layout), x)
        return out


class BertIntermediate(nn.Module):
    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.gelu = config.gelu

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.dense(x), approximate=self.gelu)


class BertLayer(nn.Module):
    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.attention = BertAttention(config)
        self.intermediate = BertIntermediate(config)
        self.output = BertOutput(config, config.intermediate_size)

    def forward(self, x: Tensor, layout: PackedLayout) -> Tensor:
        x = self.attention(x, layout)
        out: Tensor = self.output(self.intermediate(x), x)
        return out


class BertEncoder(nn.Module):
    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(BertLayer(config) for _ in range(config.num_layers))


class BertBackbone(Backbone):
    """Compression happens on the word embeddings, before positions, token type and the first LayerNorm.

    So the lookup still folds with the compressor's MLP, and with as many compressed tokens as tokens
    nothing changes.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__(config)
        self.embeddings = BertEmbeddings(config)
        self.encoder = BertEncoder(config)

    @property
    def token_table(self) -> nn.Embedding:
        return self.embeddings.word_embeddings

    def forward(self, x: Tensor, layout: PackedLayout) -> Tensor:
        x = self.embeddings(x, layout)
        for layer in self.encoder.layer:
            x = self.run(layer, x, layout)
        return x
