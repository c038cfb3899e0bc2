"""ResNets with torchvision's key names, at output stride 8, 16 or 32, with either stride placement.

mmsegmentation's ResNet does the work; this file says which of its options make each of our
architectures. Source of the architectures: He et al. 2016 (v1: the stride of a bottleneck on its
first 1x1 convolution, mmseg's "caffe" style) and torchvision (v1.5: on the 3x3, "pytorch" style).
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from vicregl_bench.errors import ConfigError

OUTPUT_STRIDES = (8, 16, 32)


@dataclass(frozen=True)
class ResNetSpec:
    """One architecture: depth, stride placement and the width of its last stage."""

    depth: int
    style: str  # "pytorch": stride on the 3x3 (v1.5); "caffe": on the first 1x1 (v1)
    out_channels: int


ARCHS: dict[str, ResNetSpec] = {
    "resnet18": ResNetSpec(18, "pytorch", 512),
    "resnet34": ResNetSpec(34, "pytorch", 512),
    "resnet50": ResNetSpec(50, "pytorch", 2048),
    "resnet101": ResNetSpec(101, "pytorch", 2048),
    "resnet50_v1": ResNetSpec(50, "caffe", 2048),
    "resnet101_v1": ResNetSpec(101, "caffe", 2048),
}


def resnet_spec(arch: str) -> ResNetSpec:
    """Look an architecture up by name.

    Raises:
        ConfigError: no such architecture.
    """
    if arch not in ARCHS:
        raise ConfigError(f"unknown architecture {arch!r}; known: {', '.join(ARCHS)}")
    return ARCHS[arch]


def resnet_options(arch: str, output_stride: int) -> dict[str, Any]:
    """Keyword arguments of mmseg's ResNet for an architecture at an output stride.

    Past the output stride, strides turn into dilations (1, 2, 4), and the first block of a dilated
    stage keeps half the dilation (`contract_dilation`), as in the released VICRegL configs and in
    torchvision's `replace_stride_with_dilation`.

    Raises:
        ConfigError: unknown architecture or an output stride other than 8, 16, 32.
    """
    spec = resnet_spec(arch)
    if output_stride not in OUTPUT_STRIDES:
        raise ConfigError(f"output stride {output_stride} is impossible; use one of 8, 16, 32")
    strides, dilations, stride, dilation = [1], [1], 4, 1
    for _ in range(3):
        if stride < output_stride:
            strides.append(2)
            stride *= 2
        else:
            strides.append(1)
            dilation *= 2
        dilations.append(dilation)
    return {
        "depth": spec.depth,
        "style": spec.style,
        "strides": tuple(strides),
        "dilations": tuple(dilations),
        "contract_dilation": True,
        "out_indices": (0, 1, 2, 3),
        "norm_cfg": {"type": "BN", "requires_grad": True},
    }


def build_resnet(arch: str, output_stride: int = 32) -> nn.Module:
    """Build a ResNet whose forward gives the maps of its four stages.

    Args:
        arch: a key of `ARCHS`.
        output_stride: stride of the last map, 8, 16 or 32.

    Returns:
        A module mapping images (B, 3, H, W) to maps of strides 4, 8 and up to `output_stride`,
        whose state dict has torchvision's keys without `fc`. Its own weights are placeholders.

    Raises:
        ConfigError: unknown architecture or impossible output stride.
    """
    from mmseg.models.backbones import ResNet

    backbone: nn.Module = ResNet(**resnet_options(arch, output_stride))
    return backbone


def random_resnet_state(arch: str, seed: int) -> dict[str, Tensor]:
    """State dict of a freshly initialised ResNet, torchvision's own initialisation, without `fc`.

    Kaiming normal (fan out) convolutions and unit BatchNorm; the same for the same seed. The global
    generator is left as it was.

    Raises:
        ConfigError: unknown architecture.
    """
    import torchvision

    spec = resnet_spec(arch)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(torchvision.models, f"resnet{spec.depth}")()
    return {k: v for k, v in model.state_dict().items() if not k.startswith("fc.")}


@cache
def _shapes(depth: int) -> dict[str, tuple[int, ...]]:
    import torchvision

    with torch.device("meta"):
        model = getattr(torchvision.models, f"resnet{depth}")()
    return {
        key: tuple(tensor.shape)
        for key, tensor in model.state_dict().items()
        if not key.startswith("fc.")
    }


def resnet_targets() -> dict[str, dict[str, tuple[int, ...]]]:
    """Shape of every parameter and buffer of every architecture, by torchvision's key names.

    The plain (v1.5) variant comes before the v1 variant of the same shapes: a file cannot tell
    them apart, and the first is taken unless `--arch` says otherwise.
    """
    return {arch: _shapes(spec.depth) for arch, spec in ARCHS.items()}
