"""Image encoders behind one interface, and what carries their features into the text backbone.

To add an encoder: a module here and a line in ``IMAGE_ENCODERS``.
"""

from jaspertc.model.vision.base import ImageEncoder
from jaspertc.model.vision.efficientnet_lite import EfficientNetLite
from jaspertc.model.vision.tower import VisionConfig, VisionTower
from jaspertc.model.vision.vit import VisionTransformer

IMAGE_ENCODERS: dict[str, type[ImageEncoder]] = {
    kind.kind: kind for kind in (EfficientNetLite, VisionTransformer)
}

__all__ = ["IMAGE_ENCODERS", "ImageEncoder", "VisionConfig", "VisionTower"]
