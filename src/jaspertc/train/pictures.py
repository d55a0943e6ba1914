"""Pictures of a vision stage: varied, their features kept, and which of them a step sees.

Shape legend: P pictures, V views of each, B pictures of a step, F features, R pooled features of all numbers
of tokens, S pixels a side.
"""

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from jaspertc.corpus.pictures import Captioned, read_picture, to_pixels
from jaspertc.engine.pictures import Features
from jaspertc.files.aside import written_aside
from jaspertc.model.vision import VisionTower
from jaspertc.recipe.vision import VisionStage
from jaspertc.train.batches import Order
from jaspertc.types import FloatArray, IntArray

if TYPE_CHECKING:
    from PIL.Image import Image

AT_ONCE = 16
Advance = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class PictureBatch:
    """The pictures of one step.

    Attributes:
        inputs: pooled features, shape (B, k x k, F), or pixels, shape (B, 3, S, S).
        each: k x k, tokens of a picture.
        targets: unit vectors of what they show, shape (B, E).
        captions: unit vectors of one caption of each, shape (B, E).
        ids: their paths.
    """

    inputs: Tensor
    each: int
    targets: Tensor
    captions: Tensor
    ids: Sequence[str]

    @property
    def tokens(self) -> int:
        """Tokens of all together."""
        return self.each * len(self.ids)


def varied(image: "Image", stage: VisionStage, rng: random.Random) -> "Image":
    """A picture cut, turned, mirrored and recoloured at random, as the stage allows."""
    from PIL import Image, ImageEnhance, ImageOps

    if stage.flip and rng.random() < 0.5:
        image = ImageOps.mirror(image)
    if stage.turn:
        angle = rng.uniform(-stage.turn, stage.turn)
        image = image.rotate(angle, Image.Resampling.BICUBIC, fillcolor=(255, 255, 255))
    share = rng.uniform(stage.crop, 1) ** 0.5
    wide, high = (max(1, round(share * side)) for side in image.size)
    left, top = rng.randint(0, image.width - wide), rng.randint(0, image.height - high)
    image = image.crop((left, top, left + wide, top + high))
    for change in (ImageEnhance.Color, ImageEnhance.Brightness, ImageEnhance.Contrast):
        image = change(image).enhance(rng.uniform(1 - stage.colour, 1 + stage.colour))
    return image


def content_hash(pictures: Sequence[Captioned]) -> str:
    """Names the pictures: a hash of their bytes, in order."""
    digest = hashlib.sha256()
    for picture in pictures:
        digest.update(hashlib.sha256(picture.path.read_bytes()).digest())
    return digest.hexdigest()[:16]


class KeptFeatures:
    """Pooled features of a frozen image encoder, computed once and kept in files, one a view.

    Args:
        folder: where the files are.
        identity: names pictures and encoder.
        features: the encoder, see ``engine.pictures``.
        advance: told of each so many pictures done.
    """

    def __init__(
        self,
        folder: Path,
        pictures: Sequence[Captioned],
        stage: VisionStage,
        tower: VisionTower,
        features: Features,
        *,
        identity: str,
        views: int,
        advance: Advance,
    ) -> None:
        self._pictures, self._stage, self._tower, self._features = pictures, stage, tower, features
        self._sizes = sorted({*stage.tokens, stage.default_tokens})
        ends = np.cumsum(self._sizes)
        self._parts = {size: slice(end - size, end) for size, end in zip(self._sizes, ends.tolist())}
        folder.mkdir(parents=True, exist_ok=True)
        self._views = []
        for view in range(views):
            changes = (stage.seed, stage.crop, stage.turn, stage.flip, stage.colour) if view else ()
            name = hashlib.sha256(repr((identity, self._sizes, view, changes)).encode()).hexdigest()[:16]
            path = folder / f"view-{view}-{name}.npy"
            if path.exists():
                advance(len(pictures))
            else:
                with written_aside(path) as file:
                    np.save(file, self._computed(view, advance))
            self._views.append(np.load(path, mmap_mode="r"))

    def pooled(self, numbers: IntArray, views: IntArray, tokens: int) -> Tensor:
        """Of these pictures, each in one of its views, shape (B, tokens, F)."""
        part = self._parts[tokens]
        rows = [self._views[view][number, part] for number, view in zip(numbers.tolist(), views.tolist())]
        return torch.from_numpy(np.stack(rows)).float()

    def _computed(self, view: int, advance: Advance) -> np.ndarray:
        """Shape (P, R, F), float16."""
        features = np.empty((len(self._pictures), sum(self._sizes), self._tower.encoder.width), np.float16)
        for begin in range(0, len(features), AT_ONCE):
            end = min(begin + AT_ONCE, len(features))
            pixels = read_pixels(self._pictures, range(begin, end), self._stage, self._tower, view)
            with torch.inference_mode():
                grid = self._features(pixels).cpu()
                parts = [self._tower.pool(grid, size) for size in self._sizes]
            features[begin:end] = torch.cat(parts, dim=1).numpy()
            advance(end - begin)
        return features


def read_pixels(
    pictures: Sequence[Captioned], numbers: Sequence[int], stage: VisionStage, tower: VisionTower, view: int
) -> FloatArray:
    """Pixels of some pictures, shape (B, 3, S, S); of view 0 as they are, else varied."""
    size = tower.encoder.image_size
    images = [read_picture(pictures[number].path, reduced_to=2 * size) for number in numbers]
    if view:
        draws = [random.Random(f"{stage.seed}/{view}/{number}") for number in numbers]
        images = [varied(image, stage, rng) for image, rng in zip(images, draws)]
    return to_pixels(images, tower.encoder)


class PictureBatches:
    """Batches of pictures: a function of the step's number alone.

    Args:
        kept: features of a frozen encoder, or ``None``: pixels are read anew for each step.
        vectors: unit vectors of all captions, shape (captions, E).
        captions: the numbers of each picture's captions.
        targets: unit vectors of what each picture shows, shape (P, E).
    """

    def __init__(
        self,
        stage: VisionStage,
        pictures: Sequence[Captioned],
        tower: VisionTower,
        kept: KeptFeatures | None,
        vectors: FloatArray,
        captions: Sequence[Sequence[int]],
        targets: FloatArray,
    ) -> None:
        self.stage, self.pictures, self.tower, self.kept = stage, pictures, tower, kept
        self.vectors, self.captions, self.targets = vectors, captions, targets
        self.order = Order(len(pictures), stage.batch_size, stage.seed)

    def tokens_at(self, step: int) -> int:
        """Tokens of a picture in a step."""
        return random.Random(f"{self.stage.seed}/{self.stage.name}/{step}").choice(self.stage.tokens)

    def __call__(self, step: int) -> PictureBatch:
        """The pictures of a step."""
        numbers, tokens = self.order.at(step), self.tokens_at(step)
        rng = np.random.default_rng([self.stage.seed, step, 3])
        if self.kept is None:
            pixels = read_pixels(self.pictures, numbers.tolist(), self.stage, self.tower, step + 1)
            inputs = torch.from_numpy(pixels)
        else:
            inputs = self.kept.pooled(numbers, rng.integers(0, self.stage.views, len(numbers)), tokens)
        chosen = [int(rng.choice(self.captions[number])) for number in numbers.tolist()]
        return PictureBatch(
            inputs=inputs,
            each=tokens,
            targets=torch.from_numpy(self.targets[numbers]),
            captions=torch.from_numpy(self.vectors[chosen]),
            ids=[str(self.pictures[number].path) for number in numbers.tolist()],
        )
