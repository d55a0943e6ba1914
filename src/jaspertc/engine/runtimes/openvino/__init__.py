"""A backbone's layers by OpenVINO on the CPU. For another backbone: a file and a line in ``GRAPHS``."""

from importlib import import_module
from typing import Any

# Backbone -> the module whose ``Graph`` builds its layers, imported when needed, since OpenVINO is an extra.
GRAPHS = {
    "qwen3": "jaspertc.engine.runtimes.openvino.qwen3",
    "bert": "jaspertc.engine.runtimes.openvino.bert",
}


def graph_class(kind: str) -> Any:
    """The ``LayerGraph`` of a backbone that ``GRAPHS`` has."""
    return import_module(GRAPHS[kind]).Graph
