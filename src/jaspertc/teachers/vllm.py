"""A teacher that vLLM runs in this process, without a server.

What is asked of vLLM is what its versions have in common: token ids in, vectors out. Texts are tokenised and
cut here, since the options for that have changed often.

Shape legend: N texts, E width of the vectors.
"""

import importlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaspertc.config import Count, ModelName
from jaspertc.errors import ConfigError, TeacherError
from jaspertc.files.hashes import files_hash
from jaspertc.teachers.base import PROBE, Teacher, TeacherConfig
from jaspertc.types import FloatArray

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


@dataclass(frozen=True, kw_only=True)
class VLLMConfig(TeacherConfig):
    """A model that vLLM (``pip install vllm``) runs in this process, without a server.

    Args:
        max_length: tokens of a text that are seen, prompt included; left out, as many as vLLM allows.
        tensor_parallel: GPUs that share the model.
        engine: further arguments of ``vllm.LLM``, such as ``{gpu_memory_utilization = 0.8}``.
    """

    model: ModelName
    max_length: Count | None = None
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    tensor_parallel: Count = 1
    engine: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        keys = {"model": "model", "dtype": "dtype", "tensor_parallel_size": "tensor_parallel"}
        for name in self.engine:
            if name in keys:
                raise ConfigError(f"engine has {name!r}; set {keys[name]} instead")
            if name in ("runner", "task", "trust_remote_code"):
                raise ConfigError(f"engine has {name!r}, which is always set the same; remove it")


class VLLMTeacher(Teacher):
    """A model that vLLM runs for pooling; remote code is not run.

    Raises:
        TeacherError: vLLM is not installed or cannot load the model, or gives no vectors.
    """

    Config = VLLMConfig

    def __init__(self, config: VLLMConfig) -> None:
        self.name = config.name
        try:
            library = importlib.import_module("vllm")
        except ImportError as error:
            raise TeacherError(
                f"teacher {config.name!r}: kind \"vllm\" needs the package 'vllm', which cannot be imported "
                f'({error}): pip install vllm; or serve the model elsewhere and use kind "openai"'
            ) from error
        try:
            self.model: Any = library.LLM(**_arguments(library, config))
            self.tokenizer: Any = self.model.get_tokenizer()
            most = int(self.model.llm_engine.model_config.max_model_len)
        except Exception as error:  # the library raises many kinds, by cause
            raise TeacherError(
                f"teacher {config.name!r}: vLLM cannot load {config.model!r} "
                f"({type(error).__name__}: {error}); see model, dtype, tensor_parallel and engine"
            ) from error
        if config.max_length is not None and config.max_length > most:
            raise TeacherError(
                f"teacher {config.name!r}: max_length is {config.max_length}, vLLM runs the model with "
                f"at most {most} tokens; lower it, or raise max_model_len in engine"
            )
        self.max_length = config.max_length or most
        self.dims = self.encode([PROBE], "").shape[1]
        self.identity = {
            "kind": config.kind,
            "model": Path(config.model).name,
            "content hash": _content_hash(config.model),
            "max length": self.max_length,
            "pooling": None,
            "computed in": config.dtype,
            "engine": {name: value for name, value in config.engine.items() if name not in SPEED},
        }

    def encode(self, texts: Sequence[str], prompt: str) -> FloatArray:
        """See ``Teacher``. vLLM makes the batches."""
        if not texts:
            return np.empty((0, self.dims), np.float32)
        rows = self.tokenizer([prompt + text for text in texts], truncation=True, max_length=self.max_length)
        prompts = [{"prompt_token_ids": list(row)} for row in rows["input_ids"]]
        try:
            outputs = self.model.embed(prompts, use_tqdm=False)
            return np.array([item.outputs.embedding for item in outputs], dtype=np.float32)
        except (AttributeError, ValueError) as error:
            raise TeacherError(
                f"teacher {self.name!r}: vLLM gave no embeddings ({type(error).__name__}: {error}); the "
                "model must be one that it runs for pooling"
            ) from error


def _arguments(library: Any, config: VLLMConfig) -> dict[str, Any]:
    """What ``vllm.LLM`` is called with; in older versions it has ``task`` instead of ``runner``."""
    known = inspect.signature(library.LLM.__init__).parameters
    arguments: dict[str, Any] = {
        "model": config.model,
        "dtype": config.dtype,
        "tensor_parallel_size": config.tensor_parallel,
        "trust_remote_code": False,
    }
    arguments |= {"task": "embed"} if "task" in known and "runner" not in known else {"runner": "pooling"}
    if config.tensor_parallel > 1:
        arguments["distributed_executor_backend"] = "mp"  # within a worker of Ray it would ask for others
    return arguments | dict(config.engine)


def _content_hash(model: str) -> str | None:
    """Of a model's weights, settings and tokenizer, in a folder or the hub's cache; ``None`` if not found."""
    folder = Path(model)
    if not folder.is_dir():
        try:
            from huggingface_hub import try_to_load_from_cache
        except ImportError:
            return None
        config = try_to_load_from_cache(model, "config.json")
        if not isinstance(config, str):
            return None
        folder = Path(config).parent
    return files_hash(folder, (path for path in folder.rglob("*") if path.suffix in MODEL_FILES))
