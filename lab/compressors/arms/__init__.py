"""Compressors with parameters of their own, each equal to ``disjoint-average`` before it is trained.

``COMPRESSORS.update(ARMS)`` adds them to the package's; ``train.py`` compares them for a few steps with
frozen layers, ``long.py`` with the whole model trained, beside ``CONTROLS`` and pooling after a few layers.
"""

from jaspertc.model.compressors import Compressor
from lab.compressors.arms.controls import Every, First, Wider
from lab.compressors.arms.convolution import Convolution
from lab.compressors.arms.slots import Slots
from lab.compressors.arms.spread import Spread
from lab.compressors.arms.weighted import Weighted

ARMS: dict[str, type[Compressor]] = {
    "weighted-average": Weighted,
    "convolution-average": Convolution,
    "slot-average": Slots,
    "average-and-spread": Spread,
}
CONTROLS: dict[str, type[Compressor]] = {"wider-mlp": Wider, "first-tokens": First, "every-nth-token": Every}
