"""The BERT and XLM-RoBERTa family: post-norm, learned positions, GELU, bidirectional.

Parameter names are those of Transformers' ``BertModel``.
Shape legend: C compressed tokens, D model width.
"""

from collections.abc import Mapping
from typing import Any, cast

from jaspertc.config import BackboneConfig, require
from jaspertc.model.attention import PackedLayout, attention
from jaspertc.model.backbones.base import Backbone, PreparedBackbone, require_supported
from jaspertc.model.products import Product
from jaspertc.pytorch import Tensor, nn, torch
from jaspertc.pytorch import functional as F


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
        layers = (self.query, self.key, self.value)
        weight, bias = (
            torch.cat([layer.weight for layer in layers]),
            torch.cat([layer.bias for layer in layers]),
        )
        q, k, v = F.linear(x, weight, bias).view(len(x), 3, self.config.num_heads, -1).unbind(1)
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

    model_types = ("bert", "roberta", "xlm-roberta")
    usual_pooler = "mean"
    layers_name = "encoder.layer"
    table_name = "embeddings.word_embeddings"
    mlp_matrices = 2
    openvino_graph = "jaspertc.engine.runtimes.openvino.bert"
    export_graph = "jaspertc.export.backbones.bert"

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

    @classmethod
    def check(cls, config: BackboneConfig) -> None:
        require(
            config.num_heads * config.head_dim == config.hidden_size,
            f"backbone.hidden_size ({config.hidden_size}) must be a multiple of the heads "
            f"({config.num_heads})",
        )

    @classmethod
    def read_hugging_face(cls, config: Mapping[str, Any]) -> BackboneConfig:
        positions = config.get("position_embedding_type") or "absolute"
        require_supported("position_embedding_type", positions, "absolute")
        activation = config.get("hidden_act", "gelu")
        require_supported("hidden_act", activation, "gelu", "gelu_new", "gelu_pytorch_tanh")
        # RoBERTa-type models number positions from after the padding id; their tables are that much longer.
        offset = 0 if config["model_type"] == "bert" else int(config.get("pad_token_id", 1)) + 1
        heads = config["num_attention_heads"]
        return BackboneConfig(
            kind="bert",
            vocab_size=config["vocab_size"],
            hidden_size=config["hidden_size"],
            num_layers=config["num_hidden_layers"],
            num_heads=heads,
            num_kv_heads=heads,
            head_dim=config["hidden_size"] // heads,
            intermediate_size=config["intermediate_size"],
            norm_eps=config.get("layer_norm_eps", 1e-12),
            max_positions=config["max_position_embeddings"] - offset,
            causal=False,
            position_offset=offset,
            type_vocab_size=config.get("type_vocab_size", 2),
            gelu="none" if activation == "gelu" else "tanh",
        )

    @classmethod
    def parameter_name(cls, stored: str) -> str | None:
        name = super().parameter_name(stored)
        if name is None:
            return None
        return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")

    def prepared(self) -> Backbone:
        return PreparedBert(self)


class PreparedLayer:
    """A layer with one product for queries, keys and values."""

    def __init__(self, layer: BertLayer, config: BackboneConfig) -> None:
        attention = layer.attention.self
        self.heads, self.causal = config.num_heads, config.causal
        self.qkv = Product.of(attention.query, attention.key, attention.value)
        self.out, self.out_norm = Product.of(layer.attention.output.dense), layer.attention.output.LayerNorm
        self.up, self.down = Product.of(layer.intermediate.dense), Product.of(layer.output.dense)
        self.norm = layer.output.LayerNorm
        self.activation = "gelu-tanh" if config.gelu == "tanh" else "gelu"

    def __call__(self, x: Tensor, layout: PackedLayout) -> Tensor:
        q, k, v = self.qkv(x).view(len(x), 3, self.heads, -1).unbind(1)
        x = self.out_norm(self.out.plus(attention(q, k, v, layout, causal=self.causal), x))
        out: Tensor = self.norm(self.down.plus(self.up(x, self.activation), x))
        return out


class PreparedBert(PreparedBackbone):
    """``BertBackbone`` prepared; positions and token type are one table."""

    def __init__(self, backbone: BertBackbone) -> None:
        super().__init__(backbone)
        tables = backbone.embeddings
        positions = tables.position_embeddings.weight.detach()[tables.position_offset :]
        self._places = positions + tables.token_type_embeddings.weight.detach()[0]  # (positions, D)
        self._norm = tables.LayerNorm
        layers = cast(list[BertLayer], backbone.encoder.layer)
        self._layers = [PreparedLayer(layer, self.config) for layer in layers]

    def forward(self, x: Tensor, layout: PackedLayout) -> Tensor:
        x = self._norm(x + self._places[layout.positions])
        for layer in self._layers:
            x = layer(x, layout)
        return x
