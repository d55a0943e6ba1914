"""The layers of each backbone as a graph, by ``Backbone.export_graph``."""

from importlib import import_module

from jaspertc.export.backbones.layers import Layers
from jaspertc.export.compression import Layout
from jaspertc.export.graph import Value
from jaspertc.export.products import Products
from jaspertc.model.backbones import Backbone, backbone_class


def layers_graph(products: Products, backbone: Backbone, layout: Layout, x: Value) -> Value:
    """A backbone's layers over packed tokens, (C, D) -> (C, D)."""
    module = backbone_class(backbone.config.kind).export_graph
    assert module is not None, "check_exportable comes first"
    out: Value = import_module(module).export_layers(Layers(products, backbone.config, layout), x, backbone)
    return out
