"""Vectors of pictures' captions: what pictures learn.

Shape legend: P pictures, E width of the vectors.
"""

from collections.abc import Sequence

import numpy as np

from jaspertc.corpus.pictures import Captioned
from jaspertc.engine.embedder import Embedder
from jaspertc.engine.precision import normalized
from jaspertc.errors import ConfigError
from jaspertc.recipe.vision import VisionStage
from jaspertc.teachers import TeacherConfig, load_teacher
from jaspertc.types import FloatArray


class CaptionVectors:
    """Unit vectors of captions, and of each picture the mean of its captions'.

    Args:
        texts: all captions, each once.
        vectors: theirs, shape (captions, E).

    Attributes:
        numbers: of each picture's captions.
        targets: unit length, shape (P, E).
    """

    def __init__(self, texts: Sequence[str], vectors: FloatArray, pictures: Sequence[Captioned]) -> None:
        number_of = {text: number for number, text in enumerate(texts)}
        self.vectors = vectors
        self.numbers = [[number_of[caption] for caption in picture.captions] for picture in pictures]
        self.targets = normalized(np.stack([vectors[numbers].mean(0) for numbers in self.numbers]))


def distinct_captions(pictures: Sequence[Captioned]) -> list[str]:
    """All captions, each once, in order of appearance."""
    return list(dict.fromkeys(caption for picture in pictures for caption in picture.captions))


def caption_vectors(
    stage: VisionStage, pictures: Sequence[Captioned], model: Embedder, teacher: TeacherConfig | None
) -> CaptionVectors:
    """The vectors of a stage's captions, from its teacher or from the text side itself.

    Raises:
        ConfigError: the teacher's vectors have another width than the model's.
    """
    texts = distinct_captions(pictures)
    prompt = model.prompt_text(None, stage.caption_prompt)
    if teacher is None:
        return CaptionVectors(texts, np.asarray(model.encode(texts, prompt=prompt), np.float32), pictures)
    loaded = load_teacher(teacher)
    if loaded.dims != model.dims:
        raise ConfigError(
            f"stage {stage.name}: teacher {stage.teacher!r} has {loaded.dims} dimensions, the model "
            f"{model.dims}; pictures can only learn vectors of the model's width"
        )
    return CaptionVectors(texts, normalized(loaded.encode(texts, prompt)), pictures)
