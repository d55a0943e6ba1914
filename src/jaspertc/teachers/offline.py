"""A teacher that vLLM runs in this process, without a server.

What is asked of vLLM is what its versions have in common: token ids in, vectors out. Texts are tokenised and
cut here, since the options for that have changed often.

Shape legend: N texts, E width of the vectors.
"""

import hashlib
import importlib
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jaspertc.recipe.recipe import VLLMTeacher
from jaspertc.teachers.endpoint import TeacherError

FloatArray = npt.NDArray[np.float32]
# What of ``engine`` a vector does not depend on.
SPEED = {
    "disable_log_stats",
    "distributed_executor_backend",
    "enforce_eager",
    "gpu_memory_utilization",
    "kv_cache_memory_bytes",
    "max_model_len",
    "max_num_batched_tokens",
    "max_num_seqs",
    "swap_space",
}
MODEL_FILES = (".safetensors", ".bin", ".json", ".txt", ".model")


class VLLMAdapter:
    """A model that vLLM runs for pooling; remote code is not run.

    Raises:
        TeacherError: vLLM is not installed or cannot load the model, or gives no vectors.
    """

    def __init__(self, recipe: VLLMTeacher) -> None:
        self.name = recipe.name
        try:
            library = importlib.import_module("vllm")
        except ImportError as error:
            raise TeacherError(
                f"teacher {recipe.name!r}: kind \"vllm\" needs the package 'vllm', which cannot be imported "
                f'({error}): pip install vllm; or serve the model elsewhere and use kind "openai"'
            ) from error
        try:
            self.model: Any = library.LLM(**_arguments(library, recipe))
            self.tokenizer: Any = self.model.get_tokenizer()
            most = int(self.model.llm_engine.model_config.max_model_len)
        except Exception as error:  # the library raises many kinds, by cause
            raise TeacherError(
                f"teacher {recipe.name!r}: vLLM cannot load {recipe.model!r} "
                f"({type(error).__name__}: {error}); see model, dtype, tensor_parallel and engine"
            ) from error
        if recipe.max_length is not None and recipe.max_length > most:
            raise TeacherError(
                f"teacher {recipe.name!r}: max_length is {recipe.max_length}, vLLM runs the model with "
                f"at most {most} tokens; lower it, or raise max_model_len in engine"
            )
        self.max_length = recipe.max_length or most
        self.dims = self.encode(["A text to find out how wide the vectors are."], "").shape[1]
        self.identity = {
            "kind": recipe.kind,
            "model": Path(recipe.model).name,
            "content hash": _content_hash(recipe.model),
            "max length": self.max_length,
            "pooling": None,
            "computed in": recipe.dtype,
            "engine": {name: value for name, value in recipe.engine.items() if name not in SPEED},
        }

    def encode(self, texts: Sequence[str], prompt: str) -> FloatArray:
        """See ``Teacher``. vLLM makes the batches."""
        if not texts:
            return np.empty((0, self.dims), np.float32)
        rows = self.tokenizer([prompt + text for text in texts], truncation=True, max_length=self.max_length)
        prompts = [{"prompt_token_ids": list(row)} for row in rows["input_ids"]]
        try:
            found = self.model.embed(prompts, use_tqdm=False)
            return np.array([item.outputs.embedding for item in found], dtype=np.float32)
        except (AttributeError, ValueError) as error:
            raise TeacherError(
                f"teacher {self.name!r}: vLLM gave no embeddings ({type(error).__name__}: {error}); the "
                "model must be one that it runs for pooling"
            ) from error


def _arguments(library: Any, recipe: VLLMTeacher) -> dict[str, Any]:
    """What ``vllm.LLM`` is called with; in older versions it has ``task`` instead of ``runner``."""
    known = inspect.signature(library.LLM.__init__).parameters
    arguments: dict[str, Any] = {
        "model": recipe.model,
        "dtype": recipe.dtype,
        "tensor_parallel_size": recipe.tensor_parallel,
        "trust_remote_code": False,
    }
    arguments |= {"task": "embed"} if "task" in known and "runner" not in known else {"runner": "pooling"}
    if recipe.tensor_parallel > 1:
        arguments["distributed_executor_backend"] = "mp"  # within a worker of Ray it would ask for others
    return arguments | dict(recipe.engine)


def _content_hash(model: str) -> str | None:
    """Of a model's weights, settings and tokenizer, in a folder or the hub's cache; ``None`` if not found."""
    folder = Path(model)
    if not folder.is_dir():
        try:
            from huggingface_hub import try_to_load_from_cache
        except ImportError:
            return None
        found = try_to_load_from_cache(model, "config.json")
        if not isinstance(found, str):
            return None
        folder = Path(found).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in MODEL_FILES:
            with path.open("rb") as file:
                digest.update(path.relative_to(folder).as_posix().encode())
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
