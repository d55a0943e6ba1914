"""How much arithmetic a text costs, from shapes alone."""

from jaspertc.config import BackboneConfig, ModelConfig
from jaspertc.model.backbones import backbone_class
from jaspertc.model.compressors import compressor_class


def token_flops(config: BackboneConfig) -> int:
    """FLOPs of all linear layers for one compressed token (a multiply-add counts as 2).

    For the released model: 0.881 GFLOP.
    """
    return backbone_class(config.kind).token_flops(config)


def text_flops(config: BackboneConfig, compressed: int) -> int:
    """FLOPs of the backbone for one text of ``compressed`` >= 1 tokens, attention included."""
    cls = backbone_class(config.kind)
    return int(compressed * (cls.token_flops(config) + cls.attention_flops(config, compressed)))


def encoder_flops(config: ModelConfig, tokens: int, compressed: int) -> int:
    """FLOPs of compressor and backbone for one text of ``tokens``, of which ``compressed`` are left."""
    cls = compressor_class(config.compressor.kind)
    compression = cls.flops(config.compressor, config.backbone.hidden_size, tokens)
    return compression + text_flops(config.backbone, compressed)
