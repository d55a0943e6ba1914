"""The layers of each backbone as a graph, by ``Backbone.export_graph``."""

from importlib import import_module
from typing import Any

from jaspertc.config import BackboneConfig
from jaspertc.export.backbones.layers import Layers
from jaspertc.export.compression import Layout
from jaspertc.export.graph import Value
from jaspertc.export.products import Products
from jaspertc.model.backbones import backbone_class


def layers_graph(products: Products, config: BackboneConfig, weights: Any, layout: Layout, x: Value) -> Value:
    """A backbone's layers over packed tokens, (C, D) -> (C, D).

    Args:
        weights: the backbone, or arrays under the same names (``model.weights.Weights``).
    """
    module = backbone_class(config.kind).export_graph
    assert module is not None, "check_exportable comes first"
    out: Value = import_module(module).export_layers(Layers(products, config, layout), x, weights)
    return out
