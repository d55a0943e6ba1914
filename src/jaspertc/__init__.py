"""jaspertc: Jasper token-compression text embeddings.

The public names are imported on first use, so that ``import jaspertc`` does not load PyTorch.
"""

from typing import TYPE_CHECKING, Any

from jaspertc.errors import JasperError

if TYPE_CHECKING:
    from jaspertc.engine.embedder import Embedder
    from jaspertc.search.index import SearchIndex

__version__ = "0.1.0"
__all__ = ["Embedder", "JasperError", "SearchIndex", "__version__"]

_LAZY = {"Embedder": "jaspertc.engine.embedder", "SearchIndex": "jaspertc.search.index"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'jaspertc' has no attribute {name!r}")
