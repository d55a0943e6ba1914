"""A student whose weights, gradients and moments are shared out over the processes (FSDP).

Each layer is a unit of its own: its weights are gathered when it is computed and dropped again. Token
table, compressor, last norm and head belong to the whole and stay gathered from a forward pass to its
backward pass. Gradients are summed over processes, as ``train.step`` does where every process has it all.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from jaspertc.errors import ConfigError
from jaspertc.model.encoder import Encoder
from jaspertc.text.packing import pack


def shard(encoder: Encoder) -> None:
    """Share an encoder out over all processes, in place; its weights must be the same on all of them.

    Raises:
        ConfigError: this version of torch cannot sum gradients.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard

    if not hasattr(FSDPModule, "set_force_sum_reduction_for_comms"):
        raise ConfigError(
            f'[training] sharding is "full", which torch {torch.__version__} cannot do; install a newer '
            'one, or set sharding = "none"'
        )
    device = encoder.backbone.token_table.weight.device
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for parameter in encoder.parameters():
        parameter.requires_grad_(True)
    layers = [
        layer for group in encoder.backbone.modules() if isinstance(group, nn.ModuleList) for layer in group
    ]
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(encoder, mesh=mesh)
    for module in (encoder, *layers):
        assert isinstance(module, FSDPModule)
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)  # gloo has no scaled sum
    # The first pass settles dtypes by what is trainable then; parts that are frozen now may join later.
    with torch.no_grad():
        encoder(pack([np.zeros(1, np.int64)]), np.ones(1, np.int64))
    encoder.reshard()  # type: ignore[operator]


def is_sharded(encoder: Encoder) -> bool:
    """Whether ``shard`` was called on it."""
    return hasattr(next(encoder.parameters()), "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that may be shared out; every process must ask for it."""
    full: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return full


def gathered(tensors: Iterable[tuple[str, Tensor]], *, keep: bool) -> dict[str, Tensor]:
    """Whole tensors in main memory; every process must take part, those without ``keep`` get none."""
    gathered_tensors = {}
    for name, tensor in tensors:
        complete = whole(tensor.detach())
        if keep:
            gathered_tensors[name] = complete.cpu().contiguous()
    return gathered_tensors


def as_held(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor as this process holds ``parameter``: its share of it, on its device."""
    tensor = tensor.to(parameter.device)
    if not hasattr(parameter, "full_tensor"):
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(parameter, DTensor)
    mesh, placements = parameter.device_mesh, parameter.placements
    return distribute_tensor(tensor, mesh, placements, src_data_rank=None)


def set_weights(encoder: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Put whole weights, the same on every process, into an encoder."""
    held = encoder.state_dict()
    encoder.load_state_dict(
        {name: as_held(value, held[name]) if name in held else value for name, value in weights.items()}
    )


def whole_encoder(encoder: Encoder, *, keep: bool) -> Encoder | None:
    """The encoder with all its weights, on its device; every process must ask for it.

    Args:
        keep: false: this process only takes part, and gets ``None``.
    """
    if not is_sharded(encoder):
        return encoder
    device = encoder.backbone.token_table.weight.device
    weights = gathered(encoder.state_dict().items(), keep=keep)
    if not keep:
        return None
    with torch.device("meta"):
        complete = Encoder(encoder.config)
        complete.head.extra = nn.ModuleList(
            nn.Linear(layer.in_features, layer.out_features)
            for layer in encoder.head.extra
            if isinstance(layer, nn.Linear)
        )
    complete.load_state_dict(weights, assign=True)
    return complete.to(device).train(encoder.training)
