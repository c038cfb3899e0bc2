"""Backbones with their expander and local projector.

Source: VICRegL, section 3.3: ResNet-50 or ConvNeXt, an expander for the pooled vector, a smaller
projector for every position of the last feature map, three linear layers each. VICReg, section
4.2: normalisation and ReLU after the first two. ResNet widths: VICReg, table 6; branches with
weights or architectures of their own: VICReg, table 5.

Deviations, and choices where the papers are silent: ConvNeXt without LayerScale and without
stochastic depth; the last linear layer of expander and projector has no bias (variance, covariance
and the distance between two views of one branch do not see it).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vicregl_bench.backbones.contract import Architecture
from vicregl_bench.backbones.convnext import NO_LAYER_SCALE, build_convnext
from vicregl_bench.backbones.resnet import torchvision_resnet
from vicregl_bench.backbones.zoo import find_architecture
from vicregl_bench.errors import ConfigError

Norm = Literal["batch", "layer"]

_CONVNEXT = "convnext"


def find_backbone(name: str) -> Architecture:
    """Facts about a backbone by its name in a recipe.

    ConvNeXts are without LayerScale whether or not their name says so.

    Raises:
        ConfigError: no such architecture, or none that is pretrained here.
    """
    plain = name.startswith(_CONVNEXT) and not name.endswith(NO_LAYER_SCALE)
    found = find_architecture(name + NO_LAYER_SCALE if plain else name)
    if found.family not in ("resnet", _CONVNEXT) or found.name.endswith("_v1"):
        raise ConfigError(f"{name!r} is not pretrained here: use a ResNet (v1.5) or a ConvNeXt")
    return found


class _ResNet(nn.Module):
    """A torchvision ResNet without `fc`: its key names, maps and their mean."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.out_channels = architecture.widths[-1]
        for name, module in torchvision_resnet(architecture.name).named_children():
            if name not in ("avgpool", "fc"):
                self.add_module(name, module)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for module in self.children():
            x = module(x)
        return x, x.mean(dim=(2, 3))


class _ConvNeXt(nn.Module):
    """A timm ConvNeXt without LayerScale and classifier: its key names, maps and normed mean."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.out_channels = architecture.widths[-1]
        self.stem: nn.Module
        self.stages: nn.Module
        self.head: nn.Module
        for name, module in build_convnext(architecture.name).named_children():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.stages(self.stem(x))
        return maps, self.head(maps)


def build_backbone(name: str) -> nn.Module:
    """A freshly initialised backbone.

    Args:
        name: see `find_backbone`.

    Returns:
        A module with `out_channels` (C), whose state dict has torchvision's keys (ResNets, without
        `fc`) or timm's (ConvNeXt), mapping images (B, 3, H, W) to the last feature map (B, C, h, w)
        and the pooled vector (B, C).

    Raises:
        ConfigError: no such architecture.
    """
    architecture = find_backbone(name)
    return (_ConvNeXt if architecture.family == _CONVNEXT else _ResNet)(architecture)


def map_side(name: str, size: int) -> int:
    """Side of the last feature map over a square view.

    Args:
        name: of the backbone.
        size: side of the view, in pixels.
    """
    if find_backbone(name).family == _CONVNEXT:
        return size // 32  # patches and downsampling drop what does not fill them
    for _ in range(5):
        size = -(-size // 2)  # padded convolutions of stride 2 round up
    return size


def build_mlp(width_in: int, widths: Sequence[int], norm: Norm) -> nn.Sequential:
    """Linear layers with normalisation and ReLU between them; the last one has no bias.

    Args:
        width_in: of the input.
        widths: of the layers, such as (8192, 8192, 8192).
        norm: "batch" or "layer".
    """
    layers: list[nn.Module] = []
    width = width_in
    for hidden in widths[:-1]:
        normed = nn.BatchNorm1d(hidden) if norm == "batch" else nn.LayerNorm(hidden)
        layers += [nn.Linear(width, hidden), normed, nn.ReLU(inplace=True)]
        width = hidden
    layers.append(nn.Linear(width, widths[-1], bias=False))
    return nn.Sequential(*layers)


@dataclass(frozen=True)
class Features:
    """What a branch makes of one view; None where nothing asks for it."""

    representation: Tensor  # (B, C)
    embedding: Tensor | None  # (B, D)
    local: Tensor | None  # (B, h*w, C')


class Branch(nn.Module):
    """Backbone, expander and local projector.

    Args:
        backbone: name of the architecture.
        expander: widths, empty where no global criterion is used.
        projector: widths, empty where no local criterion is used.
        norm: in both.
    """

    def __init__(
        self, backbone: str, expander: Sequence[int], projector: Sequence[int], norm: Norm
    ) -> None:
        super().__init__()
        self.backbone = build_backbone(backbone)
        width = int(self.backbone.out_channels)  # type: ignore[arg-type]
        self.expander = build_mlp(width, expander, norm) if expander else None
        self.projector = build_mlp(width, projector, norm) if projector else None

    def forward(self, x: Tensor) -> Features:
        """Features of one view (B, 3, H, W)."""
        maps, pooled = self.backbone(x)
        local = None
        if self.projector is not None:
            cells = maps.flatten(2).transpose(1, 2)
            local = self.projector(cells.flatten(0, 1)).unflatten(0, cells.shape[:2])
        embedding = self.expander(pooled) if self.expander is not None else None
        return Features(pooled, embedding, local)


class JointEmbedding(nn.Module):
    """Two branches over any number of views; one set of weights unless they are separate.

    Every view goes through the network by itself, so BatchNorm's statistics are those of a view.

    Args:
        first: the branch whose backbone is kept.
        second: another branch for every second view, or None to share the first.
    """

    def __init__(self, first: Branch, second: Branch | None = None) -> None:
        super().__init__()
        self.first = first
        self.second = second

    def forward(self, views: Sequence[Tensor]) -> list[Features]:
        """Features of every view (B, 3, H, W)."""
        branches = (self.first, self.second or self.first)
        return [branches[k % 2](view) for k, view in enumerate(views)]


@torch.no_grad()
def representations(backbone: nn.Module, images: Tensor) -> Tensor:
    """Pooled vectors (B, C) of images (B, 3, H, W); the mode of the module is left alone."""
    pooled: Tensor = backbone(images)[1]
    return pooled
