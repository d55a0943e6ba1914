"""Shapes of published models, as their ``config.json`` on the hub has them: to reckon without their files."""

from jaspertc.config import BackboneConfig


def _qwen(
    *, vocab: int, width: int, layers: int, heads: int, kv_heads: int, middle: int, positions: int = 32768
) -> BackboneConfig:
    return BackboneConfig(
        kind="qwen3",
        vocab_size=vocab,
        hidden_size=width,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=128,
        intermediate_size=middle,
        norm_eps=1e-6,
        max_positions=positions,
        causal=True,
    )


# QZhou-Embedding is a Qwen2.5-7B; its projections' biases cost nothing to speak of.
SHAPES: dict[str, BackboneConfig] = {
    "Qwen3-0.6B": _qwen(vocab=151_669, width=1024, layers=28, heads=16, kv_heads=8, middle=3072),
    "Qwen3-4B": _qwen(vocab=151_665, width=2560, layers=36, heads=32, kv_heads=8, middle=9728),
    "Qwen3-8B": _qwen(vocab=151_665, width=4096, layers=36, heads=32, kv_heads=8, middle=12288),
    "QZhou": _qwen(vocab=152_064, width=3584, layers=28, heads=28, kv_heads=4, middle=18944),
}


def known_shape(name: str) -> BackboneConfig | None:
    """The shape of a model by its hub name or folder, or ``None``.

    >>> known_shape("Qwen/Qwen3-Embedding-8B").hidden_size
    4096
    """
    last = name.rstrip("/").rsplit("/", 1)[-1].replace("-Embedding", "").replace("-Base", "")
    return next((shape for known, shape in SHAPES.items() if last.lower().startswith(known.lower())), None)
