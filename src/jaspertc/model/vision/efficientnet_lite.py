"""EfficientNet-Lite 0 to 4: the image encoder that trains on a laptop.

MobileNetV2 blocks scaled as in EfficientNet (arXiv 1905.11946), without squeeze-and-excite and with ReLU6.
Shape legend: N pictures, S pixels a side, F features, G features a side.
"""

import math
from collections.abc import Mapping
from typing import Any, Self

from jaspertc.errors import ConfigError
from jaspertc.model.vision.base import ImageEncoder
from jaspertc.pytorch import Tensor, nn
from jaspertc.pytorch import functional as F

VARIANTS = {
    0: (1.0, 1.0, 224),
    1: (1.0, 1.1, 240),
    2: (1.1, 1.2, 260),
    3: (1.2, 1.4, 280),
    4: (1.4, 1.8, 300),
}
# repeats, kernel, stride, expansion, channels; the first and the last stage are never repeated more often
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM, FEATURES = 32, 1280
NORM_EPS = 1e-3
# Names in the PyTorch weights of the encoder's usual package, and ours.
RELEASED_NAMES = {
    "_conv_stem.": "stem.conv.",
    "_bn0.": "stem.norm.",
    "_conv_head.": "last.conv.",
    "_bn1.": "last.norm.",
    "_blocks.": "blocks.",
    "._expand_conv.": ".expand.conv.",
    "._bn0.": ".expand.norm.",
    "._depthwise_conv.": ".depthwise.conv.",
    "._bn1.": ".depthwise.norm.",
    "._project_conv.": ".project.conv.",
    "._bn2.": ".project.norm.",
}


class ConvNorm(nn.Module):
    """Convolution from ``side`` to ceil(side / stride) values a side, batch norm, and maybe ReLU6."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        side: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        groups: int = 1,
        act: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=NORM_EPS, momentum=0.01)
        self.act = act
        added = max(0, (math.ceil(side / stride) - 1) * stride + kernel - side)
        self.padding = (added // 2, added - added // 2) * 2  # an odd pixel goes to the end, as in TensorFlow

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(F.pad(x, self.padding)))
        return F.relu6(x) if self.act else x


class InvertedResidual(nn.Module):
    """Widen, convolve each channel by itself, narrow; added to the input where shapes allow."""

    def __init__(
        self, inputs: int, outputs: int, side: int, kernel: int, stride: int, expansion: int
    ) -> None:
        super().__init__()
        wide = inputs * expansion
        self.expand = ConvNorm(inputs, wide, side) if expansion > 1 else None
        self.depthwise = ConvNorm(wide, wide, side, kernel, stride, groups=wide)
        self.project = ConvNorm(wide, outputs, math.ceil(side / stride), act=False)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        wide = x if self.expand is None else self.expand(x)
        out: Tensor = self.project(self.depthwise(wide))
        return out + x if self.residual else out


class EfficientNetLite(ImageEncoder):
    """Args:
    variant: 0 ... 4.
    image_size: S; left out, the variant's own.
    """

    kind = "efficientnet-lite"
    mean = (127 / 255,) * 3
    std = (128 / 255,) * 3

    def __init__(self, variant: int, image_size: int | None = None) -> None:
        super().__init__()
        if variant not in VARIANTS:
            raise ConfigError(f"variant is {variant!r}, it must be one of {', '.join(map(str, VARIANTS))}")
        widen, deepen, usual = VARIANTS[variant]
        self.image_size = image_size or usual
        self.width = FEATURES
        self.keys = {"variant": variant, "image_size": self.image_size}
        self.stem = ConvNorm(3, STEM, self.image_size, 3, 2)
        blocks, inputs, side = [], STEM, math.ceil(self.image_size / 2)
        for number, (repeats, kernel, stride, expansion, channels) in enumerate(STAGES):
            outputs = rounded(channels * widen)
            for repeat in range(repeats if number in (0, len(STAGES) - 1) else math.ceil(repeats * deepen)):
                step = 1 if repeat else stride
                blocks.append(InvertedResidual(inputs, outputs, side, kernel, step, expansion))
                inputs, side = outputs, math.ceil(side / step)
        self.blocks, self.grid = nn.Sequential(*blocks), side
        self.last = ConvNorm(inputs, FEATURES, side)

    def forward(self, pixels: Tensor) -> Tensor:
        out: Tensor = self.last(self.blocks(self.stem(pixels)))
        return out

    @classmethod
    def from_folder(cls, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Self | None:
        if "_conv_stem.weight" not in weights:
            return None
        renamed = {
            released_name(name): value for name, value in weights.items() if not name.startswith("_fc.")
        }
        shapes = {name: value.shape for name, value in renamed.items()}
        for variant in VARIANTS:
            encoder = cls(variant)
            if shapes == {name: value.shape for name, value in encoder.state_dict().items()}:
                encoder.load_state_dict(renamed)
                return encoder
        raise ConfigError(
            "the weights are named as EfficientNet's, but have the shapes of no Lite variant 0 to 4"
        )


def released_name(name: str) -> str:
    """Our name of a released tensor."""
    for theirs, ours in RELEASED_NAMES.items():
        if theirs.startswith(".") or name.startswith(theirs):
            name = name.replace(theirs, ours)
    return name


def rounded(channels: float) -> int:
    """Channels as a multiple of 8, at most a tenth fewer."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest
