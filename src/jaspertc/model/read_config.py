"""A model's configuration from a table, its parts by the classes that their kinds name."""

from collections.abc import Mapping
from typing import Any

from jaspertc.config import HeadConfig, ModelConfig, from_mapping, require
from jaspertc.model.backbones import backbone_class
from jaspertc.model.compressors import compressor_class


def read_model_config(values: Mapping[str, Any]) -> ModelConfig:
    """The inverse of ``dataclasses.asdict``.

    Raises:
        ConfigError: a key or kind is unknown (with the nearest known one), or a value out of range.
    """
    require(isinstance(values, Mapping), f"the model's configuration is {values!r:.80}, it must be a table")
    for key in ("backbone", "compressor", "head"):
        part = values.get(key, {})
        require(isinstance(part, Mapping), f"the model's {key} is {part!r:.80}, it must be a table")
    parts = dict(values)
    if "backbone" in values:
        cls = backbone_class(values["backbone"].get("kind"))
        parts["backbone"] = from_mapping(cls.Config, values["backbone"], "the model's backbone")
        cls.check(parts["backbone"])
    if "compressor" in values:
        table = values["compressor"]
        parts["compressor"] = compressor_class(table.get("kind", "none")).read_config(table)
    if "head" in values:
        parts["head"] = from_mapping(HeadConfig, values["head"], "the model's head")
    return from_mapping(ModelConfig, parts, "the model's configuration")
