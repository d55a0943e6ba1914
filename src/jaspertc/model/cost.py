"""How much arithmetic a text costs, from shapes alone."""

from jaspertc.config import BackboneConfig


def token_flops(config: BackboneConfig) -> int:
    """FLOPs of all linear layers for one compressed token (a multiply-add counts as 2).

    For the released model: 0.881 GFLOP.
    """
    width, head = config.hidden_size, config.head_dim
    attention = width * (config.num_heads + 2 * config.num_kv_heads) * head + config.num_heads * head * width
    matrices = 3 if config.kind == "qwen3" else 2
    return 2 * config.num_layers * (attention + matrices * width * config.intermediate_size)


def text_flops(config: BackboneConfig, compressed: int) -> int:
    """FLOPs of the backbone for one text of ``compressed`` >= 1 tokens, attention included.

    A causal token sees half the text on average. Lookup and the folded compressor cost nothing to speak of.
    """
    seen = compressed / 2 if config.causal else compressed
    per_token = 4 * seen * config.num_heads * config.head_dim * config.num_layers
    return int(compressed * (token_flops(config) + per_token))
