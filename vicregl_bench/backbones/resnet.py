"""ResNets with torchvision's key names, at output stride 8, 16 or 32, with either stride placement.

mmsegmentation's ResNet does the work; this file says which of its options make each of our
architectures. Source of the architectures: He et al. 2016 (v1: the stride of a bottleneck on its
first 1x1 convolution, mmseg's "caffe" style) and torchvision (v1.5: on the 3x3, "pytorch" style);
ResNet-200: He et al. 2016b in the depths of VICRegL and BYOL (3, 24, 36, 3); widths: VICReg,
table 6 (x2, x4: every convolution; narrow: only inside the bottlenecks, Zagoruyko and Komodakis
2016, torchvision's `wide_resnet50_2`), SwAV's x5. x0.25 is ours, for tests and quick pipelines.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from vicregl_bench.backbones.contract import Architecture, Backbone, Shapes
from vicregl_bench.errors import ConfigError

OUTPUT_STRIDES = (8, 16, 32)

DEPTHS: dict[int, tuple[int, int, int, int]] = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
"""Residual blocks of each stage; basic blocks up to depth 34, bottlenecks beyond."""


@dataclass(frozen=True)
class ResNetSpec:
    """What makes one architecture.

    Attributes:
        depth: a key of `DEPTHS`.
        style: "pytorch": stride on the 3x3 (v1.5); "caffe": on the first 1x1 (v1).
        width: factor of every convolution's channels.
        inner: factor of the channels inside the bottlenecks alone.
    """

    depth: int
    style: str = "pytorch"
    width: float = 1
    inner: int = 1

    @property
    def base(self) -> int:
        """Channels of the stem."""
        return int(64 * self.width)

    @property
    def expansion(self) -> int:
        """Channels of a block's output over those of its plain inside."""
        return 1 if self.depth < 50 else 4


def _specs() -> dict[str, ResNetSpec]:
    specs = {f"resnet{depth}": ResNetSpec(depth) for depth in DEPTHS}
    for depth in (50, 101, 152):
        specs[f"resnet{depth}_v1"] = ResNetSpec(depth, "caffe")
    for depth in (50, 101, 152, 200):
        for width in (2, 4, 5):
            specs[f"resnet{depth}x{width}"] = ResNetSpec(depth, width=width)
        for inner in (2, 4):
            specs[f"resnet{depth}x{inner}_narrow"] = ResNetSpec(depth, inner=inner)
    for depth in (18, 50):
        specs[f"resnet{depth}x0.25"] = ResNetSpec(depth, width=0.25)
    return specs


SPECS = _specs()


def _architecture(name: str, spec: ResNetSpec) -> Architecture:
    return Architecture(
        name=name,
        family="resnet",
        widths=tuple(spec.base * 2**stage * spec.expansion for stage in range(4)),
        strides=(4, 8, 16, 32),
        segmentation=(3,),
    )


ARCHS: dict[str, Architecture] = {name: _architecture(name, spec) for name, spec in SPECS.items()}


def resnet_options(arch: str, output_stride: int, stages: int = 4) -> dict[str, Any]:
    """Keyword arguments of mmseg's ResNet for an architecture at an output stride.

    Past the output stride, strides turn into dilations (1, 2, 4), and the first block of a dilated
    stage keeps half the dilation (`contract_dilation`), as in the released VICRegL configs and in
    torchvision's `replace_stride_with_dilation`.

    Raises:
        ConfigError: unknown architecture or an output stride other than 8, 16, 32.
    """
    if arch not in SPECS:
        raise ConfigError(f"unknown architecture {arch!r}; known: {', '.join(SPECS)}")
    spec = SPECS[arch]
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
        "stem_channels": spec.base,
        "base_channels": spec.base * spec.inner,
        "num_stages": stages,
        "strides": tuple(strides[:stages]),
        "dilations": tuple(dilations[:stages]),
        "contract_dilation": True,
        "out_indices": tuple(range(stages)),
        "norm_cfg": {"type": "BN", "requires_grad": True},
    }


@cache
def _resnet_class(inner: int) -> type[Backbone]:
    """The class of our ResNets; mmseg, which takes seconds to import, stays out until then."""
    from mmseg.models.backbones import ResNet as MMSegResNet
    from mmseg.models.backbones.resnet import BasicBlock, Bottleneck

    class WideBottleneck(Bottleneck):  # type: ignore[misc]
        """A bottleneck whose output is as wide as if its inside were `inner` times narrower."""

        expansion = Bottleneck.expansion // inner

    class ResNet(MMSegResNet, Backbone):  # type: ignore[misc]
        arch_settings = {  # noqa: RUF012  mmseg's name for it, a class attribute there too
            depth: (BasicBlock if depth < 50 else WideBottleneck, blocks)
            for depth, blocks in DEPTHS.items()
        }

        def pool_map(self, last: Tensor) -> Tensor:
            return last.mean(dim=(2, 3))

        def train(self, mode: bool = True) -> "ResNet":
            super().train(mode)  # mmseg's returns None
            return self

    return ResNet


def build_resnet(arch: str, output_stride: int = 32, stages: int = 4) -> Backbone:
    """Build a ResNet whose forward gives the maps of its stages.

    Args:
        arch: a key of `ARCHS`.
        output_stride: stride of the last map, 8, 16 or 32.
        stages: 4, or 3 for a C4 detector, which has `build_res5` as its RoI head.

    Returns:
        A module mapping images (B, 3, H, W) to maps of strides 4, 8 and up to `output_stride`,
        whose state dict has torchvision's keys without `fc`. Its own weights are placeholders.
        The pooled vector is the mean of the last map.

    Raises:
        ConfigError: unknown architecture or impossible output stride.
    """
    options = resnet_options(arch, output_stride, stages)
    backbone = _resnet_class(SPECS[arch].inner)(**options)
    backbone.arch = ARCHS[arch]
    backbone.strides = tuple(min(stride, output_stride) for stride in ARCHS[arch].strides[:stages])
    return backbone


def build_res5(arch: str, *, dilated: bool = False) -> nn.Module:
    """Build the last stage alone, whose keys are those of a ResNet behind `layer4.`.

    Args:
        arch: a key of `ARCHS`.
        dilated: keep the stride of the map it is given (16) instead of halving it.

    Returns:
        A module mapping (B, widths[2], h, w) to (B, widths[3], h / 2, w / 2), or to (.., h, w).

    Raises:
        ConfigError: unknown architecture.
    """
    stage: nn.Module = build_resnet(arch, 16 if dilated else 32).get_submodule("layer4")
    return stage


def torchvision_resnet(arch: str) -> nn.Module:
    """Torchvision's ResNet of an architecture, freshly initialised; v1 is built as v1.5.

    Raises:
        ConfigError: unknown architecture.
    """
    from torchvision.models import resnet

    if arch not in SPECS:
        raise ConfigError(f"unknown architecture {arch!r}; known: {', '.join(SPECS)}")
    spec = SPECS[arch]

    class Widened(resnet.ResNet):  # type: ignore[misc]
        def _make_layer(self, block: Any, planes: int, *rest: Any, **more: Any) -> nn.Module:
            if planes == 64 and spec.width != 1:
                self.inplanes = spec.base
                self.conv1 = nn.Conv2d(3, spec.base, 7, stride=2, padding=3, bias=False)
                self.bn1 = nn.BatchNorm2d(spec.base)
            made: nn.Module = super()._make_layer(block, int(planes * spec.width), *rest, **more)
            return made

    block = resnet.BasicBlock if spec.depth < 50 else resnet.Bottleneck
    # the classifier's size is torchvision's: its initialisation draws from the generator too
    network: nn.Module = Widened(
        block, list(DEPTHS[spec.depth]), num_classes=1000, width_per_group=64 * spec.inner
    )
    return network


def _without_fc(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if not key.startswith("fc.")}


def random_resnet_state(arch: str, seed: int) -> dict[str, Tensor]:
    """State dict of a freshly initialised ResNet, torchvision's own initialisation, without `fc`.

    Kaiming normal (fan out) convolutions and unit BatchNorm; the same for the same seed. The global
    generator is left as it was.

    Raises:
        ConfigError: unknown architecture.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = torchvision_resnet(arch)
    return _without_fc(network.state_dict())


@cache
def resnet_shapes(arch: str) -> Shapes:
    """Shape of every parameter and buffer of an architecture, by torchvision's key names."""
    if arch not in SPECS:
        raise ConfigError(f"unknown architecture {arch!r}; known: {', '.join(SPECS)}")
    spec = SPECS[arch]
    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (spec.base, 3, 7, 7)}
    shapes |= _norm_shapes("bn1", spec.base)
    before = spec.base
    for stage, blocks in enumerate(DEPTHS[spec.depth]):
        out = ARCHS[arch].widths[stage]
        inside = spec.base * spec.inner * 2**stage
        sides = (3, 3) if spec.expansion == 1 else (1, 3, 1)  # kernels of a block's convolutions
        for block in range(blocks):
            name = f"layer{stage + 1}.{block}"
            into = before
            for number, side in enumerate(sides, 1):
                width = out if number == len(sides) else inside
                shapes[f"{name}.conv{number}.weight"] = (width, into, side, side)
                shapes |= _norm_shapes(f"{name}.bn{number}", width)
                into = width
            if block == 0 and (stage > 0 or before != out):
                shapes[f"{name}.downsample.0.weight"] = (out, before, 1, 1)
                shapes |= _norm_shapes(f"{name}.downsample.1", out)
            before = out
    return shapes


def _norm_shapes(name: str, width: int) -> dict[str, tuple[int, ...]]:
    vectors = ("weight", "bias", "running_mean", "running_var")
    shapes: dict[str, tuple[int, ...]] = {f"{name}.{vector}": (width,) for vector in vectors}
    return shapes | {f"{name}.num_batches_tracked": ()}
