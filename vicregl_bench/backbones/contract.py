"""What every backbone offers: maps with known strides and widths, and a pooled vector."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from vicregl_bench.backbones.family import Family

Pooling = Literal["avg", "cls"]

ANY = -1
"""In a shape: a side that the file decides, such as the number of a ViT's positions."""

Shapes = Mapping[str, tuple[int, ...]]
"""State dict of an architecture without its values: key -> shape, `ANY` where it may vary."""


@dataclass(frozen=True)
class Architecture:
    """Facts about an architecture that need no module.

    Attributes:
        name: on the command line, in cards and records.
        family: whose protocol applies.
        widths: channels of the maps that `Backbone.forward` gives.
        strides: of the same maps, without dilation.
        segmentation: indices of the maps whose concatenation a linear segmentation head reads
            (VICRegL, appendix D.2: ResNets the last stage, ConvNeXts and ViTs four).
        proposals: index of the map that a detector's region proposals read.
        regions: index of the map that a linear detector's regions are cut from.
        auxiliary: index of the map of FCN's auxiliary head.
    """

    name: str
    family: Family
    widths: tuple[int, ...]
    strides: tuple[int, ...]
    segmentation: tuple[int, ...]
    proposals: int = 2
    regions: int = 3
    auxiliary: int = 2


class Backbone(nn.Module):
    """A module whose forward gives maps.

    Its state dict has the family's canonical keys: torchvision's of ResNets, timm's of ConvNeXts,
    ViTs and Swins, without classifier.

    Attributes:
        arch: the architecture.
        strides: of the maps as built, dilation included.
    """

    arch: Architecture
    strides: tuple[int, ...]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Maps (B, widths[i], H / strides[i], W / strides[i]) of images (B, 3, H, W)."""
        raise NotImplementedError

    def pooled(self, images: Tensor) -> Tensor:
        """The vector (B, D) that classification reads; its normalisation included."""
        raise NotImplementedError
