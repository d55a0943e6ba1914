"""Transformer backbones by name. To add one: a file beside this one and a line in ``BACKBONES``."""

from jaspertc.config import BackboneConfig, require_choice
from jaspertc.model.backbones.base import Backbone
from jaspertc.model.backbones.bert import BertBackbone
from jaspertc.model.backbones.qwen3 import Qwen3Backbone

BACKBONES: dict[str, type[Backbone]] = {"qwen3": Qwen3Backbone, "bert": BertBackbone}


def backbone_class(kind: str) -> type[Backbone]:
    """The class with this name; raises ConfigError if there is none."""
    require_choice("backbone.kind", kind, tuple(BACKBONES))
    return BACKBONES[kind]


def build_backbone(config: BackboneConfig) -> Backbone:
    """The backbone that ``config`` describes, with fresh weights."""
    cls = backbone_class(config.kind)
    cls.check(config)
    return cls(config)


def readers() -> dict[str, type[Backbone]]:
    """The class that reads a Hugging Face folder, by the ``model_type`` of its ``config.json``."""
    return {name: cls for cls in BACKBONES.values() for name in cls.model_types}


__all__ = ["BACKBONES", "Backbone", "backbone_class", "build_backbone", "readers"]
