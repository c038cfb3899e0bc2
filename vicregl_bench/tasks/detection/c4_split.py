"""A backbone in two: a trunk over the picture, and the layers that run on every region.

- ResNet: C4 (Ren et al. 2015; He et al. 2016, appendix): stages 1 to 3 (stride 16), and res5 on
  14 x 14 regions, which it halves to 7 x 7.
- ConvNeXt: the same: stages 1 to 3, and the last downsampling with stage 4.
- ViT: the first two thirds of the blocks as a map of the patches' tokens, and the last third on
  the 14 x 14 tokens of a region, which attend to each other alone.

VICRegL's table 9 has ConvNeXts and ViTs, but neither the paper nor its code says how they were
split: these splits are ours. Of both, the map is the raw output of its last layer, and the norm at
the backbone's very end is left out: the detector puts its own norm there. Of a ViT, positions are
added in the trunk alone, and class token and registers do not go with the regions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from vicregl_bench.backbones.contract import Backbone
from vicregl_bench.backbones.family import Family
from vicregl_bench.backbones.source import BackboneSource
from vicregl_bench.errors import ConfigError

REGION_SIDE = 14
"""Rows and columns of a region cut from the trunk's map (detectron2's C4)."""


@dataclass(frozen=True)
class C4Split:
    """Both parts of a backbone, with its weights, all of them trained.

    Attributes:
        trunk: images (B, 3, H, W) -> (map (B, width, ceil(H / stride), ceil(W / stride)),).
        regions: (N, width, 14, 14) -> (N, region_width, region_side, region_side).
        stride: of the trunk's map: 16, or a ViT's patch.
        divisor: what a picture's sides must be multiples of.
        width: channels of the trunk's map.
        region_width: channels of a region after `regions`.
        region_side: rows and columns of it.
    """

    trunk: nn.Module
    regions: nn.Module
    stride: int
    divisor: int
    width: int
    region_width: int
    region_side: int


def split_c4(source: BackboneSource) -> C4Split:
    """Split a backbone for a detector whose region head is its own last part.

    Raises:
        ConfigError: a family that has no split here.
    """
    family = source.architecture.family
    if family not in _SPLITS:
        raise ConfigError(
            f"{source.arch} cannot be split into trunk and region head; use one of the families "
            f"{', '.join(_SPLITS)}"
        )
    split = _SPLITS[family](source)
    for part in (split.trunk, split.regions):
        part.requires_grad_(True)
    return split


class _LastMap(nn.Module):
    """A backbone's last map, alone."""

    def __init__(self, body: Backbone) -> None:
        super().__init__()
        self.body = body

    def forward(self, images: Tensor) -> tuple[Tensor]:
        return (self.body(images)[-1],)

    def init_weights(self) -> None:
        """Nothing: the weights were read at construction."""


class _FirstBlocks(_LastMap):
    """The patches' tokens after the blocks that a ViT is left with, as a map."""

    def forward(self, images: Tensor) -> tuple[Tensor]:
        body: Any = self.body  # timm's VisionTransformer
        (last,) = body.forward_intermediates(
            images, indices=[len(body.blocks) - 1], intermediates_only=True
        )
        return (last,)


class _LastBlocks(nn.Module):
    """A ViT's last blocks on the tokens of one region."""

    def __init__(self, blocks: nn.Sequential) -> None:
        super().__init__()
        self.blocks = blocks

    def forward(self, regions: Tensor) -> Tensor:
        tokens: Tensor = self.blocks(regions.flatten(2).transpose(1, 2))
        return tokens.transpose(1, 2).reshape(regions.shape)


def _split_resnet(source: BackboneSource) -> C4Split:
    widths = source.architecture.widths
    trunk = source.build(stages=3)
    return C4Split(
        trunk=_LastMap(trunk),
        regions=source.build_res5(),
        stride=trunk.strides[-1],
        divisor=1,  # as in detectron2: no padding but to the largest picture of the batch
        width=widths[2],
        region_width=widths[3],
        region_side=REGION_SIDE // 2,
    )


def _split_convnext(source: BackboneSource) -> C4Split:
    arch, body = source.architecture, source.build()
    stages = body.get_submodule("stages")
    assert isinstance(stages, nn.Sequential)
    body.stages, body.head = stages[:3], nn.Identity()
    return C4Split(
        trunk=_LastMap(body),
        regions=stages[3],
        stride=arch.strides[2],
        divisor=arch.strides[2],  # else its strided layers drop the last rows and columns
        width=arch.widths[2],
        region_width=arch.widths[3],
        region_side=REGION_SIDE // 2,
    )


def _split_vit(source: BackboneSource) -> C4Split:
    arch = source.architecture
    body: Any = source.build()
    blocks = body.blocks
    cut = len(blocks) * 2 // 3
    regions = _LastBlocks(blocks[cut:])
    body.prune_intermediate_layers([cut - 1], prune_norm=True, prune_head=True)
    return C4Split(
        trunk=_FirstBlocks(body),
        regions=regions,
        stride=arch.strides[0],
        divisor=arch.strides[0],
        width=arch.widths[0],
        region_width=arch.widths[0],
        region_side=REGION_SIDE,
    )


_SPLITS: dict[Family, Callable[[BackboneSource], C4Split]] = {
    "resnet": _split_resnet,
    "convnext": _split_convnext,
    "vit": _split_vit,
}
