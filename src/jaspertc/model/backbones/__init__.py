"""Transformer backbones behind one interface. To add one: a module here and a line in ``BACKBONES``."""

from jaspertc.config import BackboneConfig
from jaspertc.model.backbones.base import Backbone
from jaspertc.model.backbones.bert import BertBackbone
from jaspertc.model.backbones.qwen3 import Qwen3Backbone

BACKBONES: dict[str, type[Backbone]] = {"qwen3": Qwen3Backbone, "bert": BertBackbone}


def build_backbone(config: BackboneConfig) -> Backbone:
    """The backbone that ``config`` describes, with fresh weights."""
    return BACKBONES[config.kind](config)


__all__ = ["BACKBONES", "Backbone", "build_backbone"]
