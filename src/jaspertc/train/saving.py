"""A run's state on disk: whole or not at all, without pickle."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from jaspertc.checkpoint.files import save_file
from jaspertc.errors import TrainingError
from jaspertc.files.aside import folder_aside, writing
from jaspertc.files.made_of import require_same
from jaspertc.train.sharding import as_held, gathered, set_weights

KEPT = "run the same command again: saved states are kept"
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def save_state(
    folder: Path,
    step: int,
    encoder: nn.Module,
    optimizer: torch.optim.Adam,
    settings: Mapping[str, Any],
    *,
    keep: int = 2,
    write: bool = True,
) -> Path:
    """Write the state after ``step`` steps as ``folder/step-N`` and drop all but the last ``keep``.

    The files are the same whether the encoder is sharded or not; where it is, every process must call.

    Args:
        settings: what determines the run (see ``files.made_of``); another one is refused at ``load_state``.
        write: false on all processes but one: only take part.

    Raises:
        TrainingError: it cannot be written.
    """
    path = folder / f"step-{step:08d}"
    weights = gathered(encoder.state_dict().items(), keep=write)
    moments = gathered(
        (
            (f"{name}/{key}", optimizer.state[parameter][key])
            for name, parameter in encoder.named_parameters()
            if parameter in optimizer.state
            for key in _MOMENTS
        ),
        keep=write,
    )
    if not write:
        return path
    with writing(path, KEPT, TrainingError), folder_aside(path) as aside:
        save_file(weights, str(aside / "weights.safetensors"))
        save_file(moments, str(aside / "optimizer.safetensors"))
        (aside / "state.json").write_text(json.dumps({"step": step, "settings": settings}))
    for old in saved_states(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return path


def saved_states(folder: Path) -> list[Path]:
    """Complete states in ``folder``, oldest first."""
    return sorted(
        path
        for path in folder.glob("step-*")
        if path.is_dir() and path.name.removeprefix("step-").isdecimal()
    )


def load_state(
    path: Path, encoder: nn.Module, optimizer: torch.optim.Adam, settings: Mapping[str, Any]
) -> int:
    """Put a saved state back into ``encoder`` and ``optimizer``; returns the steps done.

    Raises:
        TrainingError: the state was made with other settings, or its files are damaged.
    """
    try:
        state = json.loads((path / "state.json").read_text())
        before, step = state["settings"], int(state["step"])
        weights = load_file(str(path / "weights.safetensors"))
        moments = load_file(str(path / "optimizer.safetensors"))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise TrainingError(
            f"{path} cannot be read ({error}); delete it to resume from the one before"
        ) from error
    fix = "use the same recipe, or another folder"
    require_same(f"{path} was made with other settings", before, settings, fix, error=TrainingError)
    set_weights(encoder, weights)
    for name, parameter in encoder.named_parameters():
        if f"{name}/step" in moments:
            values = {key: moments[f"{name}/{key}"] for key in _MOMENTS}
            optimizer.state[parameter] = {
                key: value if key == "step" else as_held(value, parameter) for key, value in values.items()
            }
    return step


def average_weights(states: Sequence[Path]) -> dict[str, Tensor]:
    """The mean of the weights of several states of one run.

    Raises:
        TrainingError: there are none.
    """
    if not states:
        raise TrainingError("no saved states to average; save some first")
    total: dict[str, Tensor] = {}
    for path in states:
        for name, tensor in load_file(str(path / "weights.safetensors")).items():
            total[name] = total[name] + tensor.double() if name in total else tensor.double()
    first = load_file(str(states[0] / "weights.safetensors"))
    return {name: (tensor / len(states)).to(first[name].dtype) for name, tensor in total.items()}
