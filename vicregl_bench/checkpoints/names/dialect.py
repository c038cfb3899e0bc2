"""A dialect: another project's key names (and tensor layouts) for a family of backbones."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Dialect:
    """Names of one project for one family.

    The canonical names are torchvision's of ResNets, and timm's of ConvNeXts, ViTs and Swins.

    Attributes:
        name: e.g. `detectron2`.
        family: `resnet`, `convnext`, `vit` or `swin`.
        source: where the names were read.
        read: a container's tensors under canonical names, prefixes kept; None where no key is of
            this dialect, or where a canonical name is taken already. Other keys are handed through.
        write: a backbone's canonical state dict under this dialect's names; None where it is only
            read. Raises CheckpointError where the dialect cannot hold the backbone.
    """

    name: str
    family: str
    source: str
    read: Callable[[Tensors], dict[str, Tensor] | None]
    write: Callable[[Tensors], dict[str, Tensor]] | None = None
