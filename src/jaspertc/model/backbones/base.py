"""What an encoder, a checkpoint, a runtime and a plan ask of a backbone.

Shape legend: C compressed tokens, V vocabulary, D model width.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from jaspertc.config import BackboneConfig
from jaspertc.errors import CheckpointError
from jaspertc.model.attention import PackedLayout
from jaspertc.pytorch import Tensor, checkpoint, nn, torch

# Weights and buffers of Hugging Face folders that no backbone uses.
UNUSED = ("pooler.", "cls.", "lm_head.", "classifier.")
UNUSED_ENDINGS = (".position_ids", ".rotary_emb.inv_freq", ".token_type_ids")


class Backbone(nn.Module, ABC):
    """Layers over packed (compressed) token embeddings; parameters are named as in Transformers.

    Attributes:
        Config: ``BackboneConfig``, or a frozen dataclass derived from it that adds keys.
        model_types: those of Hugging Face's ``config.json`` that ``read_hugging_face`` reads.
        usual_pooler: pooling of a Hugging Face folder that names none.
        stored_prefixes: what may stand before a parameter's name in such a folder.
        layers_name: of the ``nn.ModuleList`` with the layers.
        table_name: of the lookup table; asked for only where there is an ``openvino_graph``.
        mlp_matrices: matrices of a layer's MLP, each hidden size x intermediate size.
        openvino_graph: the module whose ``Graph``, a ``LayerGraph``, builds the layers for OpenVINO.
        export_graph: the module whose ``export_layers`` builds them in an exported graph. Both are imported
            when needed, since they need extras; ``None``: these layers run in PyTorch only.
    """

    Config: ClassVar[type[BackboneConfig]] = BackboneConfig
    model_types: ClassVar[tuple[str, ...]] = ()
    usual_pooler: ClassVar[str] = "mean"
    stored_prefixes: ClassVar[tuple[str, ...]] = ("model.", "bert.", "roberta.", "xlm_roberta.")
    layers_name: ClassVar[str] = "layers"
    table_name: ClassVar[str]
    mlp_matrices: ClassVar[int]
    openvino_graph: ClassVar[str | None] = None
    export_graph: ClassVar[str | None] = None

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpointing = False

    @classmethod
    def check(cls, config: BackboneConfig) -> None:
        """Raise ConfigError for a shape that this backbone cannot have."""

    @classmethod
    def read_hugging_face(cls, config: Mapping[str, Any]) -> BackboneConfig:
        """The shape from the ``config.json`` of a Hugging Face folder.

        Raises:
            CheckpointError: an option in it is not supported.
            KeyError: one is missing.
        """
        raise NotImplementedError

    @classmethod
    def parameter_name(cls, stored: str) -> str | None:
        """A weight's name in a Hugging Face folder -> in this module, or ``None``: not used."""
        for prefix in cls.stored_prefixes:
            stored = stored.removeprefix(prefix)
        return None if stored.startswith(UNUSED) or stored.endswith(UNUSED_ENDINGS) else stored

    @classmethod
    def layer_weights(cls, config: BackboneConfig) -> int:
        """Parameters of the matrices of one layer."""
        attention = (2 * config.num_heads + 2 * config.num_kv_heads) * config.head_dim
        return config.hidden_size * (attention + cls.mlp_matrices * config.intermediate_size)

    @classmethod
    def layer_values(cls, config: BackboneConfig) -> int:
        """Numbers per token that a layer's backward pass keeps."""
        attention = (2 * config.num_heads + 2 * config.num_kv_heads) * config.head_dim
        return 6 * config.hidden_size + attention + (cls.mlp_matrices + 1) * config.intermediate_size

    @classmethod
    def token_flops(cls, config: BackboneConfig) -> int:
        """FLOPs of all layers' matrices for one compressed token (a multiply-add counts as 2)."""
        return 2 * config.num_layers * cls.layer_weights(config)

    @classmethod
    def attention_flops(cls, config: BackboneConfig, compressed: int) -> float:
        """FLOPs of attention for each token of a text; a causal one sees half the text on average."""
        seen = compressed / 2 if config.causal else compressed
        return 4 * seen * config.num_heads * config.head_dim * config.num_layers

    @property
    @abstractmethod
    def token_table(self) -> nn.Embedding:
        """The lookup table of token embeddings, shape (V, D)."""

    @abstractmethod
    def forward(self, x: Tensor, layout: PackedLayout) -> Tensor:
        """Token embeddings after compression, shape (C, D) -> last hidden states, shape (C, D)."""

    def run(self, layer: nn.Module, *arguments: Any) -> Tensor:
        """A layer's output; with ``checkpointing``, what lies within is computed again for gradients."""
        if self.checkpointing and torch.is_grad_enabled():
            out: Tensor = checkpoint(layer, *arguments, use_reentrant=False)
        else:
            out = layer(*arguments)
        return out

    def prepared(self) -> "Backbone":
        """The same layers as they are computed for vectors; by default as they are."""
        return self


class PreparedBackbone(Backbone):
    """Another backbone's layers, prepared. Its weights are copied where they are laid out anew."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone.config)
        self._table = backbone.token_table

    @property
    def token_table(self) -> nn.Embedding:
        return self._table


def require_supported(key: str, value: object, *allowed: object) -> None:
    """Raise CheckpointError unless an option of a Hugging Face ``config.json`` is one of ``allowed``."""
    if value not in allowed:
        raise CheckpointError(
            f"config.json has {key} = {value!r}; this engine supports {' or '.join(map(repr, allowed))}"
        )
