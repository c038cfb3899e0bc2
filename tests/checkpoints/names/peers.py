"""Small canonical models, random values for any model, exact comparison of state dicts."""

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
import torchvision
from timm.models.convnext import ConvNeXt
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from tests.checkpoints.layouts import mlp, prefixed

Module = TypeVar("Module", bound=nn.Module)

SWIN_SIDE = 128
"""Pixels of a picture whose last map is still larger than a window of 2."""


def randomise(module: Module, seed: int = 0) -> Module:
    """Give every parameter and statistic a value of its own: fresh biases and norms are trivial."""
    generator = torch.Generator().manual_seed(seed)
    for key, value in module.state_dict().items():
        if key.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=generator)
        elif value.is_floating_point():
            value.normal_(0, 0.2, generator=generator)
        elif key.endswith("num_batches_tracked"):
            value.fill_(7)
    module.eval()  # mmseg's Swin returns nothing
    return module


def resnet(bottleneck: bool = True) -> nn.Module:
    """A ResNet with one block a stage and no classifier."""
    model: nn.Module = torchvision.models.ResNet(
        Bottleneck if bottleneck else BasicBlock, [1, 1, 2, 1]
    )
    model.fc = nn.Identity()
    return randomise(model)


def convnext(layer_scale: bool = True, **options: Any) -> ConvNeXt:
    model = ConvNeXt(
        depths=(1, 1, 2, 1),
        dims=(8, 16, 24, 32),
        num_classes=0,
        ls_init_value=1.0 if layer_scale else None,
        **options,
    )
    return randomise(model)


def vit(**options: Any) -> VisionTransformer:
    model = VisionTransformer(
        64, 16, embed_dim=16, depth=3, num_heads=2, mlp_ratio=4, num_classes=0, **options
    )
    return randomise(model)


def swin() -> SwinTransformer:
    model = SwinTransformer(
        img_size=SWIN_SIDE,
        window_size=2,
        embed_dim=8,
        depths=(2, 2, 2, 2),
        num_heads=(1, 1, 2, 2),
        num_classes=0,
    )
    return randomise(model)


def canonical_states() -> dict[str, dict[str, Tensor]]:
    """State dicts under canonical names, by family and kind."""
    models = {
        "resnet": resnet(),
        "resnet basic": resnet(bottleneck=False),
        "convnext": convnext(),
        "convnext plain": convnext(layer_scale=False),
        "vit": vit(),
        "vit dinov2": vit(init_values=1.0, reg_tokens=4, no_embed_class=True),
        "swin": swin(),
    }
    return {name: dict(model.state_dict()) for name, model in models.items()}


def in_a_checkpoint(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a training run saves: the backbone behind a prefix, heads beside it."""
    return {
        **prefixed(state, "module.backbone."),
        **mlp("module.projector.", 1),
        "module.head.norm.weight": torch.ones(8),
        "module.queue": torch.zeros(8, 4),
    }


def without(state: Mapping[str, Tensor], *starts: str) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if not key.startswith(starts)}


def shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in state.items()}


def assert_same(found: Mapping[str, Tensor] | None, expected: Mapping[str, Tensor]) -> None:
    """Same keys, types, shapes and bits."""
    assert found is not None
    assert set(found) == set(expected)
    for key, value in expected.items():
        assert found[key].dtype == value.dtype, key
        assert torch.equal(found[key], value), key
