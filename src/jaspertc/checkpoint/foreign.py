"""What a foreign folder says that would change vectors and is not applied here: refused by name.

What cannot change vectors but looks as if it might is warned of.
"""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaspertc.checkpoint.files import read_json
from jaspertc.errors import CheckpointError

logger = logging.getLogger(__name__)

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
# Keys of config.json, the values under which nothing is to be applied, and what another value asks for.
_CONFIG_KEYS: Mapping[str, tuple[tuple[object, ...], str]] = {
    "quantization_config": ((None,), "quantised weights"),
    "is_decoder": ((None, False), "a causal mask"),
    "add_cross_attention": ((None, False), "cross-attention"),
    "embedding_size": ((None,), "factored embeddings"),
    "scale_embedding": ((None, False), "scaled embeddings"),
    "pruned_heads": ((None, {}), "pruned heads"),
}


def check_foreign(folder: Path, config: Mapping[str, Any]) -> None:
    """Look through a folder of Hugging Face's or sentence-transformers' layout.

    Raises:
        CheckpointError: it asks for something that would be left out.
    """
    for name in ADAPTER_FILES:
        if (folder / name).exists():
            raise CheckpointError(
                f"{folder} has an adapter beside its weights ({name}), which is not applied; merge it first "
                "(peft: model.merge_and_unload().save_pretrained(folder))"
            )
    for key, (allowed, what) in _CONFIG_KEYS.items():
        if config.get(key) not in allowed:
            raise CheckpointError(
                f"{folder / 'config.json'} has {key} = {config[key]!r:.80}, which asks for {what}; "
                "that is not supported"
            )
    layers = config.get("layer_types")
    odd = [kind for kind in layers or () if kind != "full_attention"]
    if odd:
        raise CheckpointError(
            f"{folder / 'config.json'} has layers of the type {odd[0]!r}; only full_attention is supported"
        )
    _check_tokenizer(folder)
    settings = _optional(folder / "config_sentence_transformers.json")
    if settings.get("truncate_dim") is not None:
        logger.warning(
            "%s cuts vectors to truncate_dim = %s; here vectors keep their width unless a call says dims=",
            folder,
            settings["truncate_dim"],
        )


def _check_tokenizer(folder: Path) -> None:
    """Tokens that tokenizer_config.json asks for must be those that tokenizer.json adds."""
    settings, path = _optional(folder / "tokenizer_config.json"), folder / "tokenizer.json"
    if not path.is_file():
        return
    content = _optional(path)
    for key, token_key in (("add_bos_token", "bos_token"), ("add_eos_token", "eos_token")):
        if settings.get(key) is not True:
            continue
        token = settings.get(token_key)
        token = token.get("content") if isinstance(token, Mapping) else token
        if token is not None and token not in set(_added(content.get("post_processor"))):
            raise CheckpointError(
                f"{folder / 'tokenizer_config.json'} sets {key}, but {path} does not add {token!r}; write "
                "the fast tokenizer again with transformers (AutoTokenizer.from_pretrained(folder)"
                ".save_pretrained(folder)), so that tokenizer.json says all"
            )
    if settings.get("truncation_side") == "left":
        raise CheckpointError(
            f"{folder / 'tokenizer_config.json'} cuts long texts at their beginning (truncation_side is "
            "'left'), which is not supported; remove the key to have them cut at their end"
        )


def _added(processor: Mapping[str, Any] | None) -> Iterator[str]:
    """The tokens that a post-processor puts around a text."""
    if processor is None:
        return
    for inner in processor.get("processors", ()):
        yield from _added(inner)
    yield from processor.get("special_tokens", {})
    for key in ("sep", "cls"):
        if key in processor:
            yield processor[key][0]


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}
