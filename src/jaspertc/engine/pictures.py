"""Pictures to vectors: an image encoder's features, then the runtime's own text layers.

Shape legend: N pictures, S pixels a side, F features, G features a side of the grid, E width of the vectors.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from jaspertc.checkpoint import Checkpoint
from jaspertc.checkpoint.vision import read_vision, vision_fingerprint
from jaspertc.corpus.pictures import read_picture, to_pixels
from jaspertc.engine.processes import computing
from jaspertc.engine.runtimes.base import Runtime
from jaspertc.engine.runtimes.openvino.layers import CompiledGraph
from jaspertc.errors import PictureError
from jaspertc.machine import thread_count
from jaspertc.model.vision import ImageEncoder, VisionTower
from jaspertc.pytorch import Tensor, torch
from jaspertc.types import FloatArray

if TYPE_CHECKING:
    from PIL.Image import Image

BATCH_PICTURES = 16
Features = Callable[[np.ndarray], Tensor]


class PictureSide:
    """The picture side of a model that is loaded; its weights are read when first used.

    Raises:
        CheckpointError: on first use, if the model has none.
    """

    def __init__(self, checkpoint: Checkpoint, runtime: Runtime) -> None:
        self._checkpoint, self._runtime = checkpoint, runtime

    @cached_property
    def tower(self) -> VisionTower:
        """Image encoder and projection."""
        width = self._checkpoint.info.config.backbone.hidden_size
        tower = read_vision(self._checkpoint.folder, width).requires_grad_(False)
        return tower.to(device=self._runtime.device)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all that determines a picture's vector."""
        return f"{self._checkpoint.fingerprint}+{vision_fingerprint(self._checkpoint.folder)}"

    @cached_property
    def _features(self) -> Features:
        return image_features(self.tower.encoder, compiled=self._runtime.name == "openvino")

    def embed_all(
        self, pictures: Sequence[Any], tokens: int | None, advance: Callable[[int], None] = lambda count: None
    ) -> FloatArray:
        """Raw vectors, shape (N, E), as of ``encode_image``; ``advance`` is told of so many pictures done."""
        tokens = self.tower.config.tokens if tokens is None else tokens
        self.tower.side_of(tokens)
        vectors = np.empty((len(pictures), self._checkpoint.info.config.embedding_dims), np.float32)
        for begin in range(0, len(pictures), BATCH_PICTURES):
            end = min(begin + BATCH_PICTURES, len(pictures))
            images = [self._read(pictures, index) for index in range(begin, end)]
            vectors[begin:end] = self._embed(images, tokens)
            advance(end - begin)
        return vectors

    def _read(self, pictures: Sequence[Any], index: int) -> "Image":
        try:
            return read_picture(pictures[index], reduced_to=self.tower.encoder.image_size)
        except PictureError as error:
            if len(pictures) == 1:
                raise
            raise PictureError(f"picture {index}: {error}") from error

    def _embed(self, images: Sequence["Image"], tokens: int) -> FloatArray:
        with computing, torch.inference_mode():
            features = self._features(to_pixels(images, self.tower.encoder))
            rows = self.tower(self.tower.pool(features, tokens))
        lengths = np.full(len(images), self.tower.rows_of(tokens), dtype=np.int64)
        return self._runtime.embed_rows(rows, lengths)


def image_features(encoder: ImageEncoder, *, compiled: bool) -> Features:
    """What computes an image encoder: PyTorch where it is, or OpenVINO."""
    return OpenVINOFeatures(encoder) if compiled else TorchFeatures(encoder)


class TorchFeatures:
    """An image encoder as it is: normalised pixels, shape (N, 3, S, S) -> features, (N, F, G, G)."""

    def __init__(self, encoder: ImageEncoder) -> None:
        self._encoder = encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._device = next(encoder.parameters()).device

    def __call__(self, pixels: np.ndarray) -> Tensor:
        features: Tensor = self._encoder(torch.from_numpy(pixels).to(self._device))
        return features


class OpenVINOFeatures:
    """An image encoder compiled by OpenVINO, in float32."""

    def __init__(self, encoder: ImageEncoder) -> None:
        import openvino as ov

        example = torch.zeros(1, 3, encoder.image_size, encoder.image_size)
        graph = ov.convert_model(encoder, example_input=example)
        self._compiled = CompiledGraph(graph, hint="f32", group=0, threads=thread_count())

    def __call__(self, pixels: np.ndarray) -> Tensor:
        return torch.from_numpy(self._compiled([pixels]).copy())
