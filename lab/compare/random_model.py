"""A checkpoint of a published shape with random weights: what speed depends on, without its files."""

from dataclasses import replace
from pathlib import Path

import torch

from jaspertc.checkpoint import save_checkpoint
from jaspertc.config import HeadConfig, ModelConfig
from jaspertc.errors import InputError
from jaspertc.model.compressors.adaptive_average import AdaptiveAverageConfig
from jaspertc.model.encoder import Encoder
from jaspertc.model.shapes import SHAPES as BACKBONES
from lab.compare.settings import SHAPES


def released_shape(name: str, layers: int = 0) -> ModelConfig:
    """The configuration of the released model of this size.

    Args:
        name: of ``SHAPES``.
        layers: keep the first so many; 0 keeps all.

    Raises:
        InputError: more layers than there are.
    """
    backbone = BACKBONES[SHAPES[name]]
    if not 0 <= layers <= backbone.num_layers:
        raise InputError(f"--layers is {layers}, the shape {name} has 1 to {backbone.num_layers}")
    return ModelConfig(
        backbone=replace(backbone, num_layers=layers or backbone.num_layers),
        compressor=AdaptiveAverageConfig(mlp="swiglu", mlp_size=3072),
        head=HeadConfig(dims=2048),
    )


def write_random_model(folder: Path, config: ModelConfig, seed: int = 0) -> Path:
    """A checkpoint folder with normal weights in bfloat16, and no tokenizer."""
    with torch.device("meta"):
        encoder = Encoder(config).to(torch.bfloat16)
    encoder = encoder.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in encoder.named_parameters():
            if "norm" in name.lower() and name.endswith("weight"):
                weight.fill_(1.0)
            else:
                scale = 1.0 if "embed" in name else 0.02
                weight.copy_(torch.randn(weight.shape, generator=generator, dtype=torch.bfloat16) * scale)
    return save_checkpoint(folder, encoder.eval(), tokenizer_json=None)
