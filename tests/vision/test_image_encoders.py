"""Image encoders: against Transformers, and EfficientNet-Lite's shapes and padding."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from jaspertc.checkpoint.vision import read_image_encoder
from jaspertc.errors import CheckpointError
from jaspertc.model.vision import ImageEncoder
from jaspertc.model.vision.efficientnet_lite import RELEASED_NAMES, VARIANTS, ConvNorm, EfficientNetLite

SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": 24,
    "patch_size": 8,
}


def transformers_model(kind: str) -> nn.Module:
    import transformers

    torch.manual_seed(0)
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 64}
    text |= {"bos_token_id": 1, "eos_token_id": 2, "intermediate_size": 24}
    both = {"vision_config": SHAPE, "text_config": text}
    models = {
        "clip vision": lambda: transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**SHAPE)),
        "siglip vision": lambda: transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**SHAPE)),
        "clip": lambda: transformers.CLIPModel(transformers.CLIPConfig(**both)),
        "siglip": lambda: transformers.SiglipModel(transformers.SiglipConfig(**both)),
        "clip, exact gelu": lambda: transformers.CLIPVisionModel(
            transformers.CLIPVisionConfig(**SHAPE, hidden_act="gelu")
        ),
    }
    model: nn.Module = models[kind]().eval()
    with torch.no_grad():
        for parameter in model.parameters():  # so that norms and biases matter, too
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("kind", ["clip vision", "siglip vision", "clip", "siglip", "clip, exact gelu"])
def test_features_are_those_of_transformers(tmp_path: Path, kind: str) -> None:
    theirs = transformers_model(kind)
    theirs.save_pretrained(tmp_path)  # type: ignore[operator]
    ours = read_image_encoder(tmp_path)
    pixels = torch.randn(3, 3, 24, 24)
    with torch.inference_mode():
        vision = getattr(theirs, "vision_model", theirs)
        expected = vision(pixel_values=pixels).last_hidden_state[:, -9:]
        features = ours(pixels)
    assert features.shape == (3, 32, 3, 3)
    torch.testing.assert_close(features.flatten(2).transpose(1, 2), expected, rtol=1e-5, atol=1e-5)


def released(encoder: ImageEncoder) -> dict[str, torch.Tensor]:
    """The encoder's weights under the names of the released files."""
    weights = {"_fc.weight": torch.zeros(10, encoder.width), "_fc.bias": torch.zeros(10)}
    back = {ours: theirs for theirs, ours in reversed(RELEASED_NAMES.items())}
    for name, value in encoder.state_dict().items():
        for ours, theirs in back.items():
            inner = ours.startswith(".")
            if (inner and name.startswith("blocks.")) or (not inner and name.startswith(ours)):
                name = name.replace(ours, theirs)
        weights[name] = value
    return weights


@pytest.mark.parametrize("variant", [0, 1, 2])
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_released_weights_are_read_and_the_variant_follows_from_them(
    tmp_path: Path, variant: int, ending: str
) -> None:
    torch.manual_seed(variant)
    encoder = EfficientNetLite(variant).eval()
    path = tmp_path / f"weights{ending}"
    torch.save(released(encoder), path) if ending == ".pth" else save_file(released(encoder), str(path))
    again = read_image_encoder(path)
    assert again.keys == {"variant": variant, "image_size": VARIANTS[variant][2]}
    pixels = torch.randn(1, 3, encoder.image_size, encoder.image_size)
    with torch.inference_mode():
        features = encoder(pixels)
        assert torch.equal(again(pixels), features)
    assert features.shape == (1, 1280, encoder.grid, encoder.grid)


def test_padding_is_tensorflows_same() -> None:
    """A kernel of 3 at stride 2: 5 pixels get one more on each side, 4 pixels one at the end."""
    for side, padding in ((5, (1, 1, 1, 1)), (4, (0, 1, 0, 1))):
        part = ConvNorm(1, 1, side, 3, 2, act=False).eval()
        nn.init.ones_(part.conv.weight)
        with torch.inference_mode():
            out = part(torch.ones(1, 1, side, side)) * (1 + part.norm.eps) ** 0.5
        assert part.padding == padding
        assert out.shape[2:] == ((side + 1) // 2,) * 2
        assert float(out[0, 0, 0, 0]) == pytest.approx(4 if padding[0] else 9)


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    torch.save({"weight": Path("/")}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match="cannot be read as weights"):
        read_image_encoder(tmp_path / "evil.pth")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a": torch.zeros(2)}, "another kind than the known image encoders: efficientnet-lite, vit"),
        ({"_conv_stem.weight": torch.zeros(32, 3, 3, 3)}, "shapes of no Lite variant"),
    ],
)
def test_other_weights_are_refused(tmp_path: Path, weights: dict[str, torch.Tensor], message: str) -> None:
    save_file(weights, str(tmp_path / "w.safetensors"))
    with pytest.raises(CheckpointError, match=message):
        read_image_encoder(tmp_path / "w.safetensors")


def test_a_damaged_vit_folder_is_refused(tmp_path: Path) -> None:
    transformers_model("siglip vision").save_pretrained(tmp_path)  # type: ignore[operator]
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"hidden_size": 32', '"hidden_size": 64'))
    with pytest.raises(CheckpointError, match="no vit that can be read here"):
        read_image_encoder(tmp_path)
    with pytest.raises(CheckpointError, match="no image encoder"):
        read_image_encoder(tmp_path / "elsewhere")
