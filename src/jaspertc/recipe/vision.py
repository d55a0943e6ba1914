"""The stage that teaches a model pictures: which pictures, which image encoder, how they are varied."""

from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from jaspertc.config import Between, Count, Share
from jaspertc.errors import ConfigError
from jaspertc.recipe.stages import StageConfig


@dataclass(frozen=True, kw_only=True)
class VisionStage(StageConfig):
    """A stage of kind ``vision``: a picture learns the vector that the frozen text side gives its captions.

    Losses compare pictures with the mean of their captions' vectors; ``contrastive`` is InfoNCE between
    pictures and one caption of each, both ways. ``batch_size`` counts pictures.

    Args:
        pictures: files or folders of pictures with captions, see ``corpus.pictures.read_captioned``.
        validation: likewise, pictures that are only looked at.
        encoder: what ``checkpoint.vision.read_image_encoder`` reads; the later of two vision stages goes on
            with the earlier one's.
        train_encoder: train the image encoder, too. Else its features are computed once and kept.
        teacher: the name of a teacher whose vectors of the captions are learnt, instead of the model's own.
        caption_prompt: name of the model's prompt that captions get; left out, the model's default.
        tokens: square numbers, one of which is drawn for each step; validation reports each.
        default_tokens: of a picture, where a call names none.
        start: how a linear projection starts: ``fit`` to the embeddings of captions' tokens, or ``random``.
        mlp_size: middle width of the projection; left out, it is linear.
        views: versions of each picture that are seen: itself, and so many less one that are varied.
        crop: least share of a picture's area that a varied one shows.
        turn: most degrees that it is turned.
        flip: whether half of them are mirrored.
        colour: most by which saturation, brightness and contrast change, as a share.
    """

    kind: ClassVar[str] = "vision"

    pictures: tuple[Path, ...]
    validation: tuple[Path, ...] = ()
    encoder: Path | None = None
    train_encoder: bool = False
    teacher: str | None = None
    caption_prompt: str | None = None
    tokens: tuple[Count, ...] = (1, 4, 16)
    default_tokens: Count = 16
    mlp_size: Count | None = None
    start: Literal["fit", "random"] = "fit"
    views: Count = 1
    crop: Annotated[float, Between(0.05, 1)] = 0.6
    turn: Annotated[float, Between(0, 180)] = 15.0
    flip: bool = True
    colour: Share = 0.4

    def __post_init__(self) -> None:
        super().__post_init__()
        for tokens in (*self.tokens, self.default_tokens):
            if isqrt(tokens) ** 2 != tokens:
                raise ConfigError(
                    f"{self.name}.tokens names {tokens}, it must be square numbers: 1, 4, 9 ..."
                )
        if self.objective.soft or self.objective.matryoshka_heads:
            raise ConfigError(
                f"{self.name}.objective has soft or matryoshka_heads, which pictures cannot learn"
            )
        if self.views > 1 and self.train_encoder:
            raise ConfigError(
                f"{self.name}.views is for a frozen encoder; a trained one sees new ones each step"
            )
