"""The vision transformers of CLIP and SigLIP, with Transformers' parameter names.

Shape legend: N pictures, S pixels a side, P = G x G patches, H heads, F width.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Self

from jaspertc.errors import ConfigError
from jaspertc.model.vision.base import ImageEncoder
from jaspertc.pytorch import Tensor, nn, torch
from jaspertc.pytorch import functional as F

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
PREFIX = "vision_model."
DROPPED = ("head.", "embeddings.position_ids")  # SigLIP's attention pooling, a buffer of old CLIP files


def quick_gelu(x: Tensor) -> Tensor:
    """CLIP's approximation of GELU."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "quick_gelu": quick_gelu,
    "gelu": F.gelu,
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
}


class Embeddings(nn.Module):
    """Patches, with a class token before them in CLIP, plus learned positions."""

    def __init__(self, width: int, patch: int, patches: int, *, clip: bool) -> None:
        super().__init__()
        self.patch_embedding = nn.Conv2d(3, width, patch, patch, bias=not clip)
        self.position_embedding = nn.Embedding(patches + clip, width)
        self.class_embedding = nn.Parameter(torch.zeros(width)) if clip else None

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patch_embedding(pixels).flatten(2).transpose(1, 2)
        if self.class_embedding is not None:
            x = torch.cat([self.class_embedding.expand(x.shape[0], 1, -1), x], dim=1)
        out: Tensor = x + self.position_embedding.weight
        return out


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        N, P, width = x.shape
        q, k, v = (
            layer(x).view(N, P, self.heads, -1).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(N, P, width)
        out: Tensor = self.out_proj(mixed)
        return out


class MLP(nn.Module):
    def __init__(self, width: int, wide: int, activation: str) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, wide), nn.Linear(wide, width)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(self.activation(self.fc1(x)))
        return out


class Layer(nn.Module):
    def __init__(self, width: int, heads: int, wide: int, activation: str, eps: float) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads)
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)
        self.mlp = MLP(width, wide, activation)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        out: Tensor = x + self.mlp(self.layer_norm2(x))
        return out


class Layers(nn.Module):
    def __init__(self, count: int, *shape: Any) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(*shape) for _ in range(count))


class VisionTransformer(ImageEncoder):
    """Features are ``last_hidden_state`` of Transformers' vision model, without CLIP's class token.

    Args:
        family: ``clip`` or ``siglip``.
        activation: of ``ACTIVATIONS``.
    """

    kind = "vit"

    def __init__(
        self,
        *,
        family: str,
        image_size: int,
        patch_size: int,
        width: int,
        layers: int,
        heads: int,
        mlp_size: int,
        activation: str,
        norm_eps: float,
    ) -> None:
        super().__init__()
        if family not in ("clip", "siglip"):
            raise ConfigError(f"family is {family!r}, it must be clip or siglip")
        if activation not in ACTIVATIONS:
            raise ConfigError(f"activation is {activation!r}, it must be one of {', '.join(ACTIVATIONS)}")
        if width % heads:
            raise ConfigError(f"width is {width}, it must be a multiple of the {heads} heads")
        clip = family == "clip"
        self.keys = {
            "family": family,
            "image_size": image_size,
            "patch_size": patch_size,
            "width": width,
            "layers": layers,
            "heads": heads,
            "mlp_size": mlp_size,
            "activation": activation,
            "norm_eps": norm_eps,
        }
        self.image_size, self.grid, self.width = image_size, image_size // patch_size, width
        self.mean, self.std = (CLIP_MEAN, CLIP_STD) if clip else ((0.5,) * 3, (0.5,) * 3)
        self.crop = clip
        self.embeddings = Embeddings(width, patch_size, self.grid**2, clip=clip)
        self.pre_layrnorm = nn.LayerNorm(width, eps=norm_eps) if clip else None  # Transformers' spelling
        self.encoder = Layers(layers, width, heads, mlp_size, activation, norm_eps)
        self.post_layernorm = None if clip else nn.LayerNorm(width, eps=norm_eps)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.embeddings(pixels)
        if self.pre_layrnorm is not None:
            x = self.pre_layrnorm(x)
        for layer in self.encoder.layers:
            x = layer(x)
        if self.post_layernorm is not None:
            x = self.post_layernorm(x)
        patches: Tensor = x[:, -(self.grid**2) :]
        grid: Tensor = patches.transpose(1, 2).unflatten(2, (self.grid, self.grid))  # type: ignore[no-untyped-call]
        return grid

    @classmethod
    def from_folder(cls, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Self | None:
        vision = {**config, **config.get("vision_config", {})}
        family = str(config.get("model_type", "")).removesuffix("_vision_model")
        if family not in ("clip", "siglip"):
            return None
        usual = {"clip": ("quick_gelu", 1e-5), "siglip": ("gelu_pytorch_tanh", 1e-6)}[family]
        encoder = cls(
            family=family,
            image_size=vision.get("image_size", 224),
            patch_size=vision.get("patch_size", 32 if family == "clip" else 16),
            width=vision.get("hidden_size", 768),
            layers=vision.get("num_hidden_layers", 12),
            heads=vision.get("num_attention_heads", 12),
            mlp_size=vision.get("intermediate_size", 3072),
            activation=vision.get("hidden_act", usual[0]),
            norm_eps=vision.get("layer_norm_eps", usual[1]),
        )
        ours = {
            name.removeprefix(PREFIX): value for name, value in weights.items() if name.startswith(PREFIX)
        }
        ours = ours or dict(weights)  # a vision model saved by itself may have no prefix
        if encoder.post_layernorm is None:
            ours = {name: value for name, value in ours.items() if not name.startswith("post_layernorm.")}
        ours = {name: value for name, value in ours.items() if not name.startswith(DROPPED)}
        encoder.load_state_dict(ours)
        return encoder
