"""From a path, a hub name or ``mini`` to a module with weights."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np

from jaspertc.checkpoint.files import (
    SCALE_SUFFIX,
    assigned_tensors,
    check_files,
    check_tensors,
    dequantized,
    has_int8,
    read_stored,
    weight_files,
)
from jaspertc.checkpoint.fingerprint import fingerprint, stamps
from jaspertc.checkpoint.layouts import CheckpointInfo, read_info
from jaspertc.checkpoint.mapped import MappedWeights
from jaspertc.errors import CheckpointError, MissingExtraError, TokenizerError
from jaspertc.model.compressors import Compressor, compressor_class
from jaspertc.model.encoder import Encoder
from jaspertc.model.int8 import int8_like
from jaspertc.model.shapes_only import shapes_only
from jaspertc.pytorch import HAS_TORCH, Needed, Tensor, nn, torch
from jaspertc.text.tokenizer import Tokenizer

BUILT_IN = {"mini": Path(__file__).parent / "mini"}
TOKENIZER = "tokenizer.json"


@dataclass(kw_only=True)
class Checkpoint:
    """A model on the host: its encoder, tokenizer and what its folder says about prompts and limits.

    Attributes:
        encoder: the model; where PyTorch is not installed, what says so when it is used.
        arrays: without PyTorch, all weights by the names of the encoder's parameters.
        mapped: where int8 matrices lie, if they were kept so.
        stamps: of the files it was read from.
    """

    name: str
    folder: Path
    info: CheckpointInfo
    encoder: Encoder
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    mapped: MappedWeights | None = None
    stamps: tuple[tuple[str, int, int, int], ...] = ()

    def __post_init__(self) -> None:
        self.stamps = stamps(self.files)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Read when first used, so that token ids can be encoded without one.

        Raises:
            TokenizerError: missing, unreadable, or larger than the model's vocabulary.
            CheckpointError: the folder's limit on tokens leaves no room for one beside the special ones.
        """
        tokenizer = Tokenizer.from_file(self.folder / TOKENIZER, fallback_id=self.info.fallback_id)
        rows = self.info.config.backbone.vocab_size
        if tokenizer.vocab_size > rows:
            raise TokenizerError(
                f"{self.folder / TOKENIZER} has {tokenizer.vocab_size} tokens but the model only {rows}; "
                "put the tokenizer.json of this very checkpoint there"
            )
        most, special = self.info.max_length, tokenizer.special_count
        if most is not None and most <= special:
            raise CheckpointError(
                f"{self.folder}: max_length in config.json (in others' files max_seq_length or "
                f"model_max_length) is {most}, it must be > {special}, the number of special tokens that "
                f"{TOKENIZER} adds"
            )
        return tokenizer

    @cached_property
    def compressor(self) -> Compressor:
        """The encoder's; without PyTorch, its rules."""
        if not self.arrays:
            return self.encoder.compressor
        config = self.info.config.compressor
        return compressor_class(config.kind).rules(config)

    @cached_property
    def has_int8_weights(self) -> bool:
        """Whether the folder stores matrices as int8."""
        return has_int8(self.folder)

    @cached_property
    def fingerprint(self) -> str:
        """See ``jaspertc.checkpoint.fingerprint``: equal fingerprints give equal vectors.

        Raises:
            CheckpointError: a file was replaced or written since the model was loaded.
        """
        if stamps(self.files) != self.stamps:
            raise CheckpointError(f"{self.folder} was changed since the model was loaded; load it again")
        return fingerprint(self.info, (self.folder, *self.info.extra_folders), self.folder / TOKENIZER)

    @property
    def files(self) -> list[Path]:
        """The files that weights and tokens come from."""
        folders = (self.folder, *self.info.extra_folders)
        return [*(path for folder in folders for path in weight_files(folder)), self.folder / TOKENIZER]


def resolve(name: str | Path) -> Path:
    """The folder that holds the model ``name``: ``mini``, a path, or a hub name such as ``org/model``.

    Raises:
        CheckpointError: there is no such folder, or the hub cannot be reached.
        MissingExtraError: a hub name, without ``huggingface_hub`` installed.
    """
    if not isinstance(name, (str, Path)):
        raise CheckpointError(f"model name is {name!r}, it must be a string or a path")
    if name == "":  # as a path, the current folder
        raise CheckpointError(
            "model name is '', it must be 'mini', a folder or a hub name such as 'org/model'"
        )
    if str(name) in BUILT_IN:
        return BUILT_IN[str(name)]
    path = Path(os.path.expanduser(name))
    if os.path.isdir(path):  # Path's own raises for a name that is too long
        return path
    if os.path.isfile(path):
        raise CheckpointError(f"{path} is a file; give the checkpoint folder that holds config.json")
    if str(name).count("/") != 1 or str(name).startswith((".", "/", "~")):
        raise CheckpointError(
            f"no model {str(name)[:100]!r}: it is neither a built-in name ({', '.join(BUILT_IN)}), "
            "nor an existing folder, nor a hub name such as 'org/model'"
        )
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingExtraError("huggingface_hub", "hub", f"downloading {str(name)!r}") from error
    try:
        patterns = ["*.json", "*.safetensors", "*/config.json", "*/model.safetensors"]
        return Path(snapshot_download(str(name), allow_patterns=patterns))
    except Exception as error:  # the library raises many kinds, by cause
        raise CheckpointError(
            f"the model {str(name)!r} is no folder here and could not be fetched from the hub "
            f"({type(error).__name__}: {error}); download it elsewhere and give its folder"
        ) from error


def load_checkpoint(name: str | Path, *, pooler: str | None = None, keep_int8: bool = False) -> Checkpoint:
    """Read a checkpoint; weights keep the dtype they are stored in.

    Args:
        name: ``mini``, a folder, or a hub name.
        pooler: overrides the folder's pooling, for plain Hugging Face folders.
        keep_int8: leave int8 matrices of the layers and the token table as they lie in the file, which is
            mapped; the modules are then of ``jaspertc.model.int8``. All other int8 weights become float32.

    Raises:
        CheckpointError: see ``resolve``; or the folder is incomplete, corrupt or not supported.
    """
    folder = resolve(name)
    info = read_info(folder, pooler)
    if not HAS_TORCH:
        return load_arrays(str(name), folder, info)
    stored, mapped = read_stored(folder), None
    if keep_int8:
        mapped = MappedWeights(assigned_tensors(folder))
        stored |= mapped.tensors
    renamed = {new: tensor for key, tensor in stored.items() if (new := info.rename(key)) is not None}
    with shapes_only():
        encoder = Encoder(info.config)
    int8 = _keep_int8(encoder, renamed) if keep_int8 else {}
    weights = {**info.extra_weights, **dequantized(renamed), **int8}
    check_tensors(encoder.state_dict(), weights, folder)
    encoder.load_state_dict(weights, assign=True)
    return Checkpoint(
        name=str(name), folder=folder, info=info, encoder=encoder.eval(), mapped=mapped if int8 else None
    )


def load_arrays(name: str, folder: Path, info: CheckpointInfo) -> Checkpoint:
    """A checkpoint without PyTorch: its weights as arrays, with int8 ones of the backbone as they are.

    Raises:
        CheckpointError: as ``load_checkpoint``; but whether all tensors are there shows when they are used.
    """
    check_files(folder)
    mapped = MappedWeights(assigned_tensors(folder), all_types=True)
    renamed = {new: array for key, array in mapped.arrays.items() if (new := info.rename(key)) is not None}
    for key in [key for key in renamed if key.endswith(SCALE_SUFFIX) and not key.startswith("backbone.")]:
        whole = key.removesuffix(SCALE_SUFFIX)
        renamed[whole] = renamed[whole].astype(np.float32) * renamed.pop(key)
    return Checkpoint(
        name=name,
        folder=folder,
        info=info,
        encoder=cast(Encoder, Needed("this")),
        arrays={_scale_name(key): array for key, array in renamed.items()},
        mapped=mapped,
    )


def _scale_name(key: str) -> str:
    """``x.weight.scale``, as it is in files, is ``x.scale`` in modules."""
    return key.removesuffix(".weight" + SCALE_SUFFIX) + SCALE_SUFFIX if key.endswith(SCALE_SUFFIX) else key


def _keep_int8(encoder: Encoder, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Make int8 what is stored so of layers and token table; takes their tensors out of ``tensors``.

    Returns:
        The tensors taken, by their names in the int8 modules.
    """
    taken: dict[str, Tensor] = {}
    table = encoder.backbone.token_table
    for name, module in list(encoder.backbone.named_modules(prefix="backbone")):
        key = f"{name}.weight"
        if not (isinstance(module, nn.Linear) or module is table) or key not in tensors:
            continue
        if tensors[key].dtype == torch.int8:
            taken[key], taken[f"{name}.scale"] = tensors.pop(key), tensors.pop(key + SCALE_SUFFIX).float()
            encoder.set_submodule(name, int8_like(module))
    return taken
