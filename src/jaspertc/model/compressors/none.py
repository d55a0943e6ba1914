"""No compression: every text keeps all its tokens."""

from collections.abc import Mapping
from typing import Any, ClassVar

from jaspertc.config import CompressorConfig
from jaspertc.errors import RatioError
from jaspertc.model.compressors.base import Compressor
from jaspertc.model.lengths import Ratio, check_ratio, target_lengths
from jaspertc.types import IntArray

WITHOUT_MLP = (("mlp", "none"), ("mlp_size", 0))  # keys that were once written for every kind


class NoCompression(Compressor):
    """Rows as they are looked up."""

    starts: ClassVar[Mapping[str, Mapping[str, Any]]] = {"none": {}}
    can_compress = False

    @classmethod
    def read_config(cls, values: Mapping[str, Any]) -> CompressorConfig:
        return super().read_config(dict(item for item in values.items() if item not in WITHOUT_MLP))

    def target_lengths(
        self, lengths: IntArray, *, ratio: Ratio, threshold: int, max_compressed: int | None
    ) -> IntArray:
        if (check_ratio(ratio, len(lengths)) < 1).any():
            raise RatioError(
                f"ratio is {ratio}, but this model has no compressor; leave it out, or graft one on: "
                "jaspertc graft SOURCE OUT"
            )
        bound = target_lengths(lengths, ratio=1.0, threshold=threshold, max_compressed=max_compressed)
        if (bound < lengths).any():
            raise RatioError(
                f"max_compressed is {max_compressed}, but this model has no compressor to keep to it; use "
                "max_length to cut texts"
            )
        return lengths
