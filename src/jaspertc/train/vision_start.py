"""The picture side as its first stage begins: the rows around a picture, and the projection."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from jaspertc.checkpoint.parts import fit_linear
from jaspertc.corpus.pictures import Captioned
from jaspertc.model.encoder import Encoder
from jaspertc.model.vision import ImageEncoder, VisionConfig, VisionTower
from jaspertc.recipe.vision import VisionStage
from jaspertc.text.packing import pack
from jaspertc.text.tokenizer import Tokenizer
from jaspertc.train.captions import distinct_captions
from jaspertc.train.pictures import KeptFeatures

RIDGE = 1.0


def new_tower(
    stage: VisionStage, image_encoder: ImageEncoder, frozen: Encoder, tokenizer: Tokenizer, prompt: str
) -> VisionTower:
    """A picture side with a random projection.

    Args:
        frozen: the text side.
        prompt: of captions; its embeddings stand around a picture's, too.
    """
    rows, after = _frame(frozen, tokenizer, prompt)
    config = VisionConfig(
        tokens=stage.default_tokens,
        mlp_size=stage.mlp_size or 0,
        before=len(rows) - after,
        after=after,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stage.seed)
        tower = VisionTower(config, image_encoder, frozen.config.backbone.hidden_size)
    with torch.no_grad():
        tower.before.copy_(rows[: config.before])
        tower.after.copy_(rows[config.before :])
        last = tower.projection[-1]
        assert isinstance(last, torch.nn.Linear)
        last.weight.mul_(3**0.5 * frozen.backbone.token_table.weight.std())  # as tokens' embeddings
    for tokens in stage.tokens:
        tower.side_of(tokens)
    return tower


def _frame(frozen: Encoder, tokenizer: Tokenizer, prompt: str) -> tuple[Tensor, int]:
    """Rows of a text of the prompt alone, shape (rows, D), and how many of them follow the text."""
    ids, bare = tokenizer.encode_batch([prompt, ""])
    after = 0
    while after < min(len(bare), len(ids) - 1) and bare[len(bare) - 1 - after] == ids[len(ids) - 1 - after]:
        after += 1
    with torch.no_grad():
        rows = frozen.compress(pack([ids]), np.array([len(ids)]))
    return rows, after


def fit_projection(
    tower: VisionTower,
    pictures: Sequence[Captioned],
    features: KeptFeatures,
    tokens: int,
    frozen: Encoder,
    tokenizer: Tokenizer,
) -> None:
    """Start the projection as the ridge regression of what the captions' tokens are on features.

    Args:
        tokens: of a picture.
    """
    texts = distinct_captions(pictures)
    special = len(tokenizer.encode_batch([""])[0]) - tower.config.after
    with torch.inference_mode():
        means = {}
        for text, ids in zip(texts, tokenizer.encode_batch(texts)):
            words = ids[special : len(ids) - tower.config.after]
            words = words if len(words) else ids
            means[text] = frozen.compress(pack([words]), np.array([len(words)])).mean(0).cpu()
        wanted = [torch.stack([means[text] for text in item.captions]).mean(0) for item in pictures]
        numbers = np.arange(len(pictures))
        pooled = features.pooled(numbers, np.zeros_like(numbers), tokens).mean(1)
        device = next(tower.projection.parameters()).device
        inputs = tower.projection[0](pooled.to(device)).cpu()
    last = tower.projection[-1]
    assert isinstance(last, torch.nn.Linear)
    fit_linear(last, inputs, torch.stack(wanted), ridge=RIDGE)
