"""BatchNorm over the batches of all devices."""

import torch
from mmengine.dist import get_world_size
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def synchronise_batch_norm(model: nn.Module, device: torch.device) -> str | None:
    """Make every BatchNorm of a model one over all processes, in place.

    By torch.nn.SyncBatchNorm, which takes CUDA tensors alone. Parameters and buffers, and so the
    optimiser's and the checkpoint's names of them, stay. To be called before the model is wrapped
    for distributed training.

    Args:
        model: not itself a BatchNorm.
        device: that the model is trained on.

    Returns:
        A deviation for the record where each process keeps to its own part of the batch: several
        processes on the CPU. None where there is one process, no BatchNorm, or all is synchronised.
    """
    present = any(isinstance(module, _BatchNorm) for module in model.modules())
    if get_world_size() == 1 or not present:
        return None
    if device.type != "cuda":
        return "BatchNorm is not synchronised: torch.nn.SyncBatchNorm runs on CUDA alone"
    nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    return None
