"""Files built here in the layouts that methods publish, around narrow ResNets.

Keys are torchvision's own; every width is a sixteenth, so a file takes a few hundred KiB.
"""

import argparse
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
import torchvision
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]


def resnet_shapes(arch: str, *, head: bool = False) -> Shapes:
    with torch.device("meta"):
        state = getattr(torchvision.models, arch)().state_dict()
    return {
        key: tuple(size // 16 if size >= 64 else size for size in value.shape)
        for key, value in state.items()
        if head or not key.startswith("fc.")
    }


def make_state(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """Random values that are exact in half precision."""
    generator = torch.Generator().manual_seed(seed)
    return OrderedDict(
        (key, torch.tensor(seed + 1))
        if key.endswith("num_batches_tracked")
        else (key, torch.randn(shape, generator=generator).half().float())
        for key, shape in shapes.items()
    )


def prefixed(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


def mlp(prefix: str, seed: int) -> dict[str, Tensor]:
    """Linear, BatchNorm, ReLU, Linear without bias: the expanders of VICReg and VICRegL."""
    shapes: Shapes = {
        "0.weight": (8, 8),
        "0.bias": (8,),
        "1.weight": (8,),
        "1.bias": (8,),
        "1.running_mean": (8,),
        "1.running_var": (8,),
        "1.num_batches_tracked": (),
        "3.weight": (8, 8),
    }
    return prefixed(make_state(shapes, seed), prefix)


def optimizer_state(state: Mapping[str, Tensor], slot: str = "mu") -> dict[str, Any]:
    """State by parameter number, each tensor as large as the parameter it belongs to."""
    return {
        "state": {number: {slot: value.clone()} for number, value in enumerate(state.values())},
        "param_groups": [{"lr": 0.1, "params": list(range(len(state)))}],
    }


def vicregl_full(backbone: Mapping[str, Tensor], alpha: float = 0.75) -> dict[str, Any]:
    model = prefixed(backbone, "module.backbone.")
    if alpha < 1:
        model |= mlp("module.maps_projector.", 11)
    if alpha > 0:
        model |= mlp("module.projector.", 12)
    model |= {
        "module.classifier.weight": torch.ones(10, 8),
        "module.classifier.bias": torch.ones(10),
    }
    return {"epoch": 300, "model": model, "optimizer": optimizer_state(backbone)}


def vicreg_full(backbone: Mapping[str, Tensor]) -> dict[str, Any]:
    model = prefixed(backbone, "module.backbone.") | mlp("module.projector.", 13)
    return {"epoch": 1000, "model": model, "optimizer": optimizer_state(backbone)}


def barlow_full(backbone: Mapping[str, Tensor]) -> dict[str, Any]:
    """VICReg's layout with a parameter-free BatchNorm after the projector."""
    full = vicreg_full(backbone)
    full["model"] |= {
        "module.bn.running_mean": torch.zeros(8),
        "module.bn.running_var": torch.ones(8),
    }
    return full


def with_namespace(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """A training checkpoint that carries its parsed arguments, as PixPro's does."""
    return {
        "opt": argparse.Namespace(arch="resnet18", lr=0.5),
        "model": prefixed(state, "module."),
    }
