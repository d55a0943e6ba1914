"""What a checkpoint folder says about itself, for each layout that can be read.

- ours: ``config.json`` with a ``jaspertc`` section;
- the released Jasper-Token-Compression layout (``JasperV2Encoder``);
- Hugging Face / sentence-transformers folders of Qwen3 and BERT-family embedding models.
"""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jaspertc.checkpoint.files import read_json, read_rows, read_weights
from jaspertc.checkpoint.foreign import check_foreign
from jaspertc.config import HeadConfig, ModelConfig
from jaspertc.errors import CheckpointError, ConfigError
from jaspertc.model.backbones import Backbone, readers
from jaspertc.model.backbones.base import UNUSED_ENDINGS
from jaspertc.model.backbones.qwen3 import Qwen3Backbone
from jaspertc.model.compressors import compressor_class
from jaspertc.model.compressors.adaptive_average import RELEASED_MLP, AdaptiveAverageConfig
from jaspertc.model.read_config import read_model_config
from jaspertc.pytorch import Tensor
from jaspertc.types import is_integer

logger = logging.getLogger(__name__)

FORMAT = 1
LEAST_PIECE = 32
_MODULE_ORDER = ("Pooling", "Dense", "Normalize")
_POOLED = "sentence_embedding"  # what a Dense layer reads and writes: a text's vector, not its tokens


@dataclass(frozen=True, kw_only=True)
class CheckpointInfo:
    """Everything but the weights.

    Attributes:
        prompts: prompt text by name, as ``config_sentence_transformers.json`` gives them.
        default_prompt_name: the prompt used when a call names none.
        max_length: tokens kept per text by default; ``None`` keeps all.
        fallback_id: token that stands for a text without tokens.
        piece_length: longer texts are cut into pieces of at most so many tokens; ``None`` keeps them whole.
        rename: weight name in the file -> name in the module, or ``None`` for weights not used.
        extra_weights: further tensors, by module name (a sentence-transformers Dense layer).
        extra_folders: where those lie.
        notes: how the folder was made, by the name of what made it (``optimize``); nothing is read from it.
    """

    config: ModelConfig
    prompts: Mapping[str, str]
    default_prompt_name: str | None
    max_length: int | None
    fallback_id: int | None
    rename: Callable[[str], str | None]
    piece_length: int | None = None
    extra_weights: Mapping[str, Tensor] = field(default_factory=dict)
    extra_folders: tuple[Path, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)


def read_info(folder: Path, pooler: str | None = None) -> CheckpointInfo:
    """Recognise the layout of ``folder``.

    Args:
        pooler: overrides the folder's pooling (``mean``, ``last``, ``first``).

    Raises:
        CheckpointError: the layout or an option in it is not supported, or a file is broken.
    """
    config = read_json(folder / "config.json")
    try:
        if "jaspertc" in config:
            info = _ours(folder, config)
        elif "JasperV2Encoder" in (config.get("architectures") or []):
            info = _released(folder, config)
        else:
            info = _hugging_face(folder, config, pooler)
        return info if pooler is None else replace(info, config=replace(info.config, pooler=pooler))
    except KeyError as error:
        raise CheckpointError(f"{folder / 'config.json'} has no key {error}") from error
    except (ConfigError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:  # odd values
        raise CheckpointError(f"{folder / 'config.json'}: {error}") from error


def _prompts(folder: Path) -> tuple[dict[str, str], str | None]:
    path = folder / "config_sentence_transformers.json"
    content = read_json(path) if path.is_file() else {}
    if not isinstance(content.get("prompts") or {}, dict):
        raise CheckpointError(f"{path}: prompts is {content['prompts']!r:.80}, it must be an object")
    prompts = {name: text for name, text in (content.get("prompts") or {}).items() if text is not None}
    for name, text in prompts.items():
        if not isinstance(text, str):
            raise CheckpointError(f"{path}: prompts.{name} is {text!r:.80}, it must be a string")
    default = content.get("default_prompt_name")
    if default is not None and default not in [*prompts]:
        names = ", ".join(map(repr, prompts)) or "none"
        raise CheckpointError(f"{path}: default_prompt_name is {default!r:.80}, the prompts are {names}")
    return prompts, default


def _token_limit(path: Path, content: Mapping[str, Any], key: str) -> int | None:
    """A limit on tokens from a file; huge ones are tokenizers' way to say that there is none."""
    value = content.get(key)
    if value is None or (isinstance(value, (int, float)) and value > 1e9):
        return None
    if not is_integer(value) or value < 1:
        raise CheckpointError(f"{path}: {key} is {value!r:.80}, it must be an integer >= 1")
    return int(value)


def _piece_length(path: Path, content: Mapping[str, Any]) -> int | None:
    length = _token_limit(path, content, "piece_length")
    if length is not None and length < LEAST_PIECE:
        raise CheckpointError(f"{path}: piece_length is {length}, it must be >= {LEAST_PIECE} tokens")
    return length


def _fallback_id(config: Mapping[str, Any]) -> int | None:
    for key in ("eos_token_id", "sep_token_id", "pad_token_id"):
        value = config.get(key)
        if isinstance(value, list) and value:
            value = value[0]
        if isinstance(value, int):
            return value
    return None


def stored_prefixes(config: ModelConfig) -> dict[str, str]:
    """Beginning of a weight's name in our checkpoints -> its beginning in the module.

    Ours keep the released names; a compressor says which of its own have one.
    """
    compressor = compressor_class(config.compressor.kind).stored_names
    return {
        "model.": "backbone.",
        "linear_1.": "head.linear.",
        **{stored: f"compressor.{name}" for stored, name in compressor.items()},
        "compressor.": "compressor.",
    }


def _renaming(config: ModelConfig) -> Callable[[str], str | None]:
    prefixes = stored_prefixes(config)

    def rename(name: str) -> str | None:
        for stored, ours in prefixes.items():
            if name.startswith(stored):
                return ours + name.removeprefix(stored)
        return None if name.endswith(UNUSED_ENDINGS) else name

    return rename


def _hugging_face_renaming(cls: type[Backbone]) -> Callable[[str], str | None]:
    def rename(stored: str) -> str | None:
        name = cls.parameter_name(stored)
        return None if name is None else f"backbone.{name}"

    return rename


def _ours(folder: Path, config: Mapping[str, Any]) -> CheckpointInfo:
    path, section = folder / "config.json", config["jaspertc"]
    written = section["format"]
    if not is_integer(written) or written < 1:
        raise CheckpointError(f"{path}: format is {written!r:.80}, it must be an integer >= 1")
    if written > FORMAT:
        raise CheckpointError(f"{folder} is in format {written}; update jaspertc, which reads {FORMAT}")
    prompts, default = _prompts(folder)
    model = read_model_config(section["model"])
    fallback_id, tokens = section.get("fallback_id"), model.backbone.vocab_size
    if fallback_id is not None and not (is_integer(fallback_id) and 0 <= fallback_id < tokens):
        raise CheckpointError(
            f"{path}: fallback_id is {fallback_id!r:.80}, it must be a token id, 0 to {tokens - 1}, or null"
        )
    return CheckpointInfo(
        config=model,
        prompts=prompts,
        default_prompt_name=default,
        max_length=_token_limit(path, section, "max_length"),
        fallback_id=fallback_id,
        piece_length=_piece_length(path, section),
        rename=_renaming(model),
        notes=dict(section.get("notes") or {}),
    )


def _released(folder: Path, config: Mapping[str, Any]) -> CheckpointInfo:
    # These two widths are in no configuration file, only in the weights.
    dims, mlp_size = read_rows(folder, "linear_1.weight", RELEASED_MLP)
    if dims is None or mlp_size is None:
        raise CheckpointError(
            f"{folder} lacks linear_1.* or jasper_mlp.*; it is not a complete JasperV2Encoder"
        )
    prompts, default = _prompts(folder)
    model = ModelConfig(
        backbone=Qwen3Backbone.read_hugging_face(config),
        compressor=AdaptiveAverageConfig(mlp="swiglu", mlp_size=mlp_size),
        pooler="mean",
        head=HeadConfig(dims=dims),
    )
    return CheckpointInfo(
        config=model,
        prompts=prompts,
        default_prompt_name=default,
        max_length=None,
        fallback_id=_fallback_id(config),
        rename=_renaming(model),
    )


def _hugging_face(folder: Path, config: Mapping[str, Any], pooler: str | None) -> CheckpointInfo:
    model_type = config.get("model_type")
    known = readers()
    if model_type not in known:
        raise CheckpointError(
            f"{folder} is a {model_type!r} model; supported are {', '.join(known)}, the released "
            "JasperV2Encoder layout and jaspertc's own"
        )
    cls = known[model_type]
    backbone = cls.read_hugging_face(config)
    cls.check(backbone)
    check_foreign(folder, config)
    modules = _sentence_transformers_modules(folder)
    chosen = pooler or modules.pooler
    if chosen is None:
        chosen = cls.usual_pooler
        logger.warning("%s names no pooling; using %r (pass pooler= to choose)", folder, chosen)
    prompts, default = _prompts(folder)
    return CheckpointInfo(
        config=ModelConfig(backbone=backbone, pooler=chosen, head=modules.head, normalize=modules.normalize),
        prompts=prompts,
        default_prompt_name=default,
        max_length=modules.max_length,
        fallback_id=_fallback_id(config),
        rename=_hugging_face_renaming(cls),
        extra_weights=modules.weights,
        extra_folders=modules.folders,
    )


@dataclass(frozen=True, kw_only=True)
class _Modules:
    pooler: str | None = None
    head: HeadConfig = field(default_factory=HeadConfig)
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    folders: tuple[Path, ...] = ()
    normalize: bool = True
    max_length: int | None = None


def _sentence_transformers_modules(folder: Path) -> _Modules:
    """Pooling, Dense head and normalisation from ``modules.json``, if there is one."""
    path = folder / "modules.json"
    if not path.is_file():
        return _Modules(max_length=_sentence_transformers_limit(folder))
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        kinds = [(str(entry["type"]).rsplit(".", 1)[-1], folder / entry["path"]) for entry in entries]
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} is not a list of modules with 'type' and 'path' ({error})") from error
    order = [kind for kind, _ in kinds if kind != "Transformer"]
    unknown = [kind for kind in order if kind not in _MODULE_ORDER]
    if unknown:
        raise CheckpointError(
            f"{path} names the module {unknown[0]!r}; supported are Transformer, {', '.join(_MODULE_ORDER)}"
        )
    if order != [kind for kind in _MODULE_ORDER if kind in order]:
        raise CheckpointError(f"{path} has the modules {order}; supported is the order {list(_MODULE_ORDER)}")
    folders = dict(kinds)
    head, weights = HeadConfig(), dict[str, Tensor]()
    if "Dense" in folders:
        head, weights = _dense(folders["Dense"])
    return _Modules(
        pooler=_pooling(folders["Pooling"]) if "Pooling" in folders else None,
        head=head,
        weights=weights,
        folders=(folders["Dense"],) if "Dense" in folders else (),
        normalize="Normalize" in folders,
        max_length=_sentence_transformers_limit(folder),
    )


def _sentence_transformers_limit(folder: Path) -> int | None:
    for name, key in (
        ("sentence_bert_config.json", "max_seq_length"),
        ("tokenizer_config.json", "model_max_length"),
    ):
        content = read_json(folder / name) if (folder / name).is_file() else {}
        if name.startswith("sentence") and content.get("do_lower_case"):
            raise CheckpointError(
                f"{folder / name} sets do_lower_case, which is not supported; lower the texts"
            )
        if (limit := _token_limit(folder / name, content, key)) is not None:
            return limit
    return None


def _dense(folder: Path) -> tuple[HeadConfig, dict[str, Tensor]]:
    content = read_json(folder / "config.json")
    activation = str(content.get("activation_function", "")).rsplit(".", 1)[-1]
    if activation != "Identity":
        raise CheckpointError(f"{folder} has activation {activation!r}; only Identity is supported")
    if content.get("use_residual"):
        raise CheckpointError(f"{folder} adds its input to its output (use_residual), which is not supported")
    for key in ("module_input_name", "module_output_name"):
        if (content.get(key) or _POOLED) != _POOLED:
            raise CheckpointError(f"{folder} has {key} {content[key]!r}; only {_POOLED!r} is supported")
    weights = {f"head.{name}": tensor for name, tensor in read_weights(folder).items()}
    return HeadConfig(dims=content["out_features"], bias=content.get("bias", True)), weights


def _pooling(folder: Path) -> str:
    content = read_json(folder / "config.json")
    names = {"mean": "mean", "mean_tokens": "mean", "cls": "first", "cls_token": "first", "lasttoken": "last"}
    chosen = [key.removeprefix("pooling_mode_") for key, value in content.items() if value is True]
    chosen = [key for key in chosen if f"pooling_mode_{key}" in content]
    named = content.get("pooling_mode")
    if named is not None:
        chosen = named if isinstance(named, list) else [named]
    if len(chosen) != 1 or chosen[0] not in [*names]:
        raise CheckpointError(
            f"{folder} pools by {chosen!r:.80}; supported is one of mean, cls and last token"
        )
    if content.get("include_prompt") is False:
        raise CheckpointError(f"{folder} leaves the prompt's tokens out of the mean, which is not supported")
    return names[chosen[0]]
