"""What every backbone offers: maps with known strides and widths, and a pooled vector."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
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

    @property
    def vectors(self) -> dict[str, int]:
        """Width of every vector that `Backbone.vectors` gives, by name."""
        last = self.widths[-1]
        own = {"blocks": 4 * last} if self.family == "vit" else {"stages": sum(self.widths)}
        return {"pooled": last, "avg": last, **own}


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
        return self.pool_map(self(images)[-1])

    def pool_map(self, last: Tensor) -> Tensor:
        """The pooled vector (B, D) of the last map, in families where that is all it takes."""
        raise NotImplementedError

    def vectors(self, images: Tensor) -> dict[str, Tensor]:
        """Every vector that a classifier may read, of one forward; widths: `arch.vectors`.

        Returns:
            "pooled": what `pooled` gives. "avg": the mean over positions of the last map, without
            a ConvNeXt's or Swin's last normalisation. "stages": the means of the maps of all
            stages, one after the other; of ViTs there is "blocks" instead (`build_vit`).
        """
        maps = self(images)
        means = [one.mean(dim=(2, 3)) for one in maps]
        stages = torch.cat(means, dim=1)
        return {"pooled": self.pool_map(maps[-1]), "avg": means[-1], "stages": stages}
