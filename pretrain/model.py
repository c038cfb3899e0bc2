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
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vicregl_bench.errors import ConfigError

Norm = Literal["batch", "layer"]

_RESNETS: dict[str, tuple[str, tuple[int, int, int, int]]] = {
    "resnet18": ("BasicBlock", (2, 2, 2, 2)),
    "resnet34": ("BasicBlock", (3, 4, 6, 3)),
    "resnet50": ("Bottleneck", (3, 4, 6, 3)),
    "resnet101": ("Bottleneck", (3, 4, 23, 3)),
    "resnet200": ("Bottleneck", (3, 24, 36, 3)),
}
_CONVNEXTS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "convnext_tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
    "convnext_small": ((3, 3, 27, 3), (96, 192, 384, 768)),
    "convnext_base": ((3, 3, 27, 3), (128, 256, 512, 1024)),
    "convnext_xlarge": ((3, 3, 27, 3), (256, 512, 1024, 2048)),
}


@dataclass(frozen=True)
class Architecture:
    """A backbone's name taken apart.

    `resnet50`, `resnet50x2` (every convolution twice as wide, features 4096), `resnet50x2_narrow`
    (only inside the bottlenecks, features 2048), `convnext_small`.
    """

    family: str
    width: int = 1
    narrow: bool = False

    @classmethod
    def parse(cls, name: str) -> "Architecture":
        """Take a name apart.

        Raises:
            ConfigError: no such architecture.
        """
        stem, _, suffix = name.partition("_narrow")
        family, _, width = stem.partition("x") if stem.startswith("resnet") else (stem, "", "")
        known = family in _RESNETS or family in _CONVNEXTS
        sound = width in ("", "2", "4") and not suffix and (not name.endswith("_narrow") or width)
        basic = family in ("resnet18", "resnet34") and width
        if not known or not sound or basic:
            names = ", ".join([*_RESNETS, *_CONVNEXTS])
            raise ConfigError(
                f"unknown backbone {name!r}: use {names}; from resnet50 on also x2, x4, x2_narrow "
                "and x4_narrow"
            )
        return cls(family, int(width or 1), name.endswith("_narrow"))


class _ResNet(nn.Module):
    """A torchvision ResNet without `fc`: its key names, maps and their mean."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        from torchvision.models import resnet

        block_name, layers = _RESNETS[architecture.family]
        block = getattr(resnet, block_name)
        widen = 1 if architecture.narrow else architecture.width

        class Widened(resnet.ResNet):  # type: ignore[misc]
            """Every convolution `widen` times as wide."""

            def _make_layer(self, block: Any, planes: int, *rest: Any, **more: Any) -> nn.Module:
                if planes == 64 and widen > 1:
                    self.inplanes = 64 * widen
                    self.conv1 = nn.Conv2d(3, self.inplanes, 7, stride=2, padding=3, bias=False)
                    self.bn1 = nn.BatchNorm2d(self.inplanes)
                made: nn.Module = super()._make_layer(block, planes * widen, *rest, **more)
                return made

        narrow = architecture.width if architecture.narrow else 1
        built = Widened(block, list(layers), num_classes=1, width_per_group=64 * narrow)
        self.out_channels = 512 * widen * block.expansion
        for name, module in built.named_children():
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
        from timm.models.convnext import ConvNeXt

        depths, dims = _CONVNEXTS[architecture.family]
        built = ConvNeXt(depths=depths, dims=dims, num_classes=0, ls_init_value=None)
        self.out_channels = dims[-1]
        self.stem, self.stages, self.head = built.stem, built.stages, built.head

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.stages(self.stem(x))
        return maps, self.head(maps)


def build_backbone(name: str) -> nn.Module:
    """A freshly initialised backbone.

    Args:
        name: see `Architecture`.

    Returns:
        A module with `out_channels` (C), whose state dict has torchvision's keys (ResNets, without
        `fc`) or timm's (ConvNeXt), mapping images (B, 3, H, W) to the last feature map (B, C, h, w)
        and the pooled vector (B, C).

    Raises:
        ConfigError: no such architecture.
    """
    architecture = Architecture.parse(name)
    if architecture.family in _CONVNEXTS:
        return _ConvNeXt(architecture)
    return _ResNet(architecture)


def map_side(name: str, size: int) -> int:
    """Side of the last feature map over a square view.

    Args:
        name: of the backbone.
        size: side of the view, in pixels.
    """
    if Architecture.parse(name).family in _CONVNEXTS:
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
