"""Exported files, run with ONNX Runtime."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")


class Exported:
    """An exported file and a session of it."""

    def __init__(self, path: Path) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = False  # what a call took is given back
        self.path = path
        self.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def __call__(
        self, rows: Sequence[np.ndarray], *, ratio: Any = None, threshold: Any = None, output: str = "raw"
    ) -> np.ndarray:
        """Vectors of rows of token ids, padded on the right with ids that must not matter."""
        ids = np.full((len(rows), max(map(len, rows)) + 1), 7)
        mask = np.zeros_like(ids)
        for place, row in enumerate(rows):
            ids[place, : len(row)], mask[place, : len(row)] = row, 1
        return self.of(ids, mask, ratio=ratio, threshold=threshold, output=output)

    def of(
        self,
        ids: np.ndarray,
        mask: np.ndarray,
        *,
        ratio: Any = None,
        threshold: Any = None,
        output: str = "raw",
    ) -> np.ndarray:
        feeds = {"input_ids": ids, "attention_mask": mask}
        if ratio is not None:
            feeds["ratio"] = np.atleast_1d(np.asarray(ratio, dtype=np.float64))
        if threshold is not None:
            feeds["threshold"] = np.atleast_1d(np.asarray(threshold, dtype=np.int64))
        found: np.ndarray = self.session.run([output], feeds)[0]
        return found


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Exported]:
    """A model's export with raw vectors as a second output; keywords as ``export``'s."""
    from jaspertc.export.write import export

    made: dict[Any, Exported] = {}

    def make(name: str | Path, **options: Any) -> Exported:
        key = (str(name), *sorted(options.items()))
        if key not in made:
            out = tmp_path_factory.mktemp("export") / "model.onnx"
            export(name, out, raw=True, **options)
            made[key] = Exported(out)
        return made[key]

    return make


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """Where npm has installed what the tests of JavaScript need: in ``NODE_PATH``, or in the repository."""
    places = [
        *os.environ.get("NODE_PATH", "").split(os.pathsep),
        str(Path(__file__).parents[2] / "node_modules"),
    ]
    for place in filter(None, places):
        if (Path(place) / "onnxruntime-web").is_dir() and (
            Path(place) / "@huggingface" / "tokenizers"
        ).is_dir():
            return Path(place)
    pytest.skip("npm packages onnxruntime-web and @huggingface/tokenizers are not in NODE_PATH")
