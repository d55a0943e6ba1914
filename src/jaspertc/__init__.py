"""jaspertc: Jasper token-compression text embeddings.

The public names are imported on first use, so that ``import jaspertc`` does not load PyTorch.
"""

from typing import TYPE_CHECKING, Any

from jaspertc.errors import JasperError, torch_needed_for

if TYPE_CHECKING:
    from jaspertc.engine.embedder import Embedder
    from jaspertc.engine.options import LongTextWarning
    from jaspertc.evaluation.run import evaluate
    from jaspertc.search.documents import Document
    from jaspertc.search.index import SearchIndex
    from jaspertc.teaching.fill import teach
    from jaspertc.train.distil import distil

__version__ = "0.1.0"
__all__ = [
    "Document",
    "Embedder",
    "JasperError",
    "LongTextWarning",
    "SearchIndex",
    "__version__",
    "distil",
    "evaluate",
    "teach",
]

_MODULES = {
    "Document": "jaspertc.search.documents",
    "Embedder": "jaspertc.engine.embedder",
    "LongTextWarning": "jaspertc.engine.options",
    "SearchIndex": "jaspertc.search.index",
    "distil": "jaspertc.train.distil",
    "evaluate": "jaspertc.evaluation.run",
    "teach": "jaspertc.teaching.fill",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        from importlib import import_module

        with torch_needed_for(f"jaspertc.{name}"):
            return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'jaspertc' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
